/* torch's own pool of page-locked memory, with malloc in place of CUDA; a copy is over when it is asked about. */
#include <ATen/core/CachingHostAllocator.h>

struct Copy {};
using Block = at::HostBlock<c10::Stream>;

struct Pool : at::CachingHostAllocatorImpl<c10::Stream, Copy> {
  void allocate_host_memory(size_t size, void** address) override { *address = std::malloc(size); }
  void free_block(Block* block) override { std::free(block->ptr_); }
  void record_stream(std::optional<std::vector<Copy>>& copies, c10::Stream) override { copies->emplace_back(); }
  bool query_event(Copy&) override { return true; }
};

static Pool pool;

extern "C" void* pool_have(size_t size) { return pool.allocate(size).second; }
extern "C" size_t pool_size(void* block) { return static_cast<Block*>(block)->size_; }
extern "C" void pool_copy(void* block) {
  c10::Stream stream(c10::Stream::DEFAULT, c10::Device(c10::kCPU));
  pool.record_event(static_cast<Block*>(block)->ptr_, block, stream);
}
extern "C" void pool_free(void* block) { pool.free(block); }
extern "C" void pool_empty() { pool.empty_cache(); }
extern "C" size_t max_split_size() { return c10::CachingAllocator::AcceleratorAllocatorConfig::max_split_size(); }
