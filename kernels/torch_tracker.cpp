// What torch's CUDA allocator knows of a block and tells no hook: the size that was asked for and the stream.
//
// Compiled when it is first needed, against the headers of the torch it will run in, since these types have no stable
// ABI. torch calls the tracker with its allocator locked, so it only passes numbers on. A tracker cannot be taken
// away again: it can only be told to be silent.

#include <c10/cuda/CUDACachingAllocator.h>

#include <atomic>
#include <cstdint>
#include <type_traits>

namespace {

using Detail = void (*)(uint64_t address, uint64_t asked, uint64_t stream);

std::atomic<Detail> detail{nullptr};

template <typename Entry>
void track(const Entry& entry) {
  if (entry.action_ != Entry::ALLOC) return;
  if (const Detail tell = detail.load(std::memory_order_relaxed))
    tell(entry.addr_, entry.size_, reinterpret_cast<uint64_t>(entry.stream_));
}

}  // namespace

// Call `on_block` with every block; null: tell nothing from now on.
extern "C" void wb_track(Detail on_block) {
  detail = on_block;
  static const bool attached = [] {
    c10::cuda::CUDACachingAllocator::attachAllocatorTraceTracker([](const auto& entry) { track(entry); });
    return true;
  }();
  (void)attached;
}
