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
using Segment = void (*)(int freed, uint64_t address, uint64_t bytes, uint64_t stream, int device);

std::atomic<Detail> detail{nullptr};
std::atomic<Segment> segment{nullptr};

template <typename Entry>
void track(const Entry& entry) {
  const auto stream = reinterpret_cast<uint64_t>(entry.stream_);
  const auto tell_segment = [&](int freed) {
    if (const Segment tell = segment.load(std::memory_order_relaxed))
      tell(freed, entry.addr_, entry.size_, stream, entry.device_);
  };
  switch (entry.action_) {
    case Entry::ALLOC:
      if (const Detail tell = detail.load(std::memory_order_relaxed)) tell(entry.addr_, entry.size_, stream);
      break;
    case Entry::SEGMENT_ALLOC:
    case Entry::SEGMENT_MAP:
      tell_segment(0);
      break;
    case Entry::SEGMENT_FREE:
    case Entry::SEGMENT_UNMAP:
      tell_segment(1);
      break;
    default:
      break;
  }
}

}  // namespace

// Call `on_block` with every block and `on_segment` with every segment; null: tell nothing of them from now on.
extern "C" void wb_track(Detail on_block, Segment on_segment) {
  detail = on_block;
  segment = on_segment;
  static const bool attached = [] {
    c10::cuda::CUDACachingAllocator::attachAllocatorTraceTracker([](const auto& entry) { track(entry); });
    return true;
  }();
  (void)attached;
}
