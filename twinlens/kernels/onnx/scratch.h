// Memory that an operator needs besides its outputs, from ONNX Runtime's own allocator.
#pragma once
#include <algorithm>
#include <map>
#include <mutex>
#include <vector>

#include "ort_abi.h"

// On a GPU a kernel runs after the call that launched it has returned, and runs of one session may
// use several streams. So each stream keeps its block until the session ends: freed at
// once, it could go to another stream while the kernel still writes it. A block is only
// replaced by one of twice the size, and the old one is kept too, since a captured graph
// may hold its address. After the first run of a size nothing is allocated, so it can be captured.
class Scratch {
 public:
  explicit Scratch(ort::Handle allocator) : allocator_(allocator) {}
  Scratch(Scratch&& other) : allocator_(other.allocator_) {}

  // Return a block of at least `bytes` that belongs to this stream.
  ort::Handle keep(const ort::Api* api, void* stream, size_t bytes, void** out) {
    std::lock_guard<std::mutex> lock(mutex_);
    Block& block = newest_[stream];
    if (block.bytes < bytes) {
      const size_t larger = std::max(bytes, 2 * block.bytes);
      void* memory = nullptr;
      if (ort::Handle status = borrow(api, larger, &memory)) return status;
      all_.push_back(memory);
      block = {memory, larger};
    }
    *out = block.memory;
    return nullptr;
  }

  // Return a block for this call alone; it must be released.
  ort::Handle borrow(const ort::Api* api, size_t bytes, void** out) {
    return ort::call<ort::kAllocate>(api, allocator_, bytes, out);
  }

  ort::Handle give_back(const ort::Api* api, void* memory) {
    return ort::call<ort::kRelease>(api, allocator_, memory);
  }

  // Free everything; the session ends.
  void release(const ort::Api* api) {
    for (void* memory : all_) give_back(api, memory);
    ort::call_void<ort::kReleaseAllocator>(api, allocator_);
  }

 private:
  struct Block {
    void* memory = nullptr;
    size_t bytes = 0;
  };
  ort::Handle allocator_;
  std::mutex mutex_;
  std::map<void*, Block> newest_;
  std::vector<void*> all_;
};
