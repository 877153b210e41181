// The few parts of ONNX Runtime's C interface that three custom operators need, declared by number.
// The interface is a table of function pointers that only grows, so a slot keeps its meaning;
// no header of ONNX Runtime is needed to build this, and none is shipped in its packages.
#pragma once
#include <cstddef>
#include <cstdint>

namespace ort {

using Handle = void*;  // a status, value, context, domain, ...; a null status is success

struct Api {
  void* slot[1];
};

struct ApiBase {
  const Api* (*get)(uint32_t version);
  const char* (*version)();
};

enum Slot {
  kCreateStatus = 0,
  kCreateDomain = 26,
  kDomainAdd = 27,
  kSessionAddDomain = 28,
  kTensorData = 51,
  kCreateShape = 57,
  kSetElementType = 58,
  kSetDimensions = 59,
  kCountDimensions = 61,
  kGetDimensions = 62,
  kGetSymbolicDimensions = 63,
  kGetTensorShape = 65,
  kAllocate = 75,
  kRelease = 76,
  kContextInput = 90,
  kContextOutput = 91,
  kReleaseShape = 99,
  kReleaseAllocator = 132,
  kContextGpuStream = 193,
  kInferInputShape = 268,
  kInferOutputShape = 270,
  kSetSymbolicDimensions = 271,
  kContextParallelFor = 274,
  kKernelAllocator = 278,
};

constexpr uint32_t kNewestApi = 24, kOldestApi = 18;
enum ElementType { kFloat = 1, kInt64 = 7 };
enum Memory { kOnHost = -2, kOnDevice = 0 };  // of an input, or of what an allocator gives
enum Code { kFail = 1, kInvalidArgument = 2 };

// What an operator tells ONNX Runtime about itself. The callbacks get this table as their `self`.
struct OpTable {
  uint32_t version;
  uint32_t padding;
  void *create_kernel, *get_name, *get_provider, *input_type, *input_count, *output_type,
      *output_count, *compute, *destroy, *input_character, *output_character, *input_memory,
      *variadic[4], *create_kernel_v2, *compute_v2, *infer_shape, *start_version, *end_version,
      *in_place[4];
};
static_assert(sizeof(OpTable) == 208, "the operator table of ONNX Runtime is 208 bytes");

// Call a slot that returns a status.
template <Slot slot, class... Arguments>
inline Handle call(const Api* api, Arguments... arguments) {
  return reinterpret_cast<Handle (*)(Arguments...)>(api->slot[slot])(arguments...);
}

// Call a slot that returns nothing.
template <Slot slot, class... Arguments>
inline void call_void(const Api* api, Arguments... arguments) {
  reinterpret_cast<void (*)(Arguments...)>(api->slot[slot])(arguments...);
}

}  // namespace ort
