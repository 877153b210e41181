// The three operators of domain ai.twinlens for ONNX Runtime: names, shapes, and for each a kernel on
// the CPU and one on CUDA under the same name.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <string>

#include "ort_abi.h"
#include "scratch.h"
#include "cpu_kernels.h"
#include "cuda_kernels.h"

#define TWINLENS_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using ort::Handle;

const ort::Api* api;

enum Kind { kSoftmax, kSigmoid, kTopK };
const char* const kNames[] = {"NormalizedSimilaritySoftmax", "NormalizedSimilaritySigmoid",
                              "NormalizedSimilarityTopK"};
const size_t kInputs[] = {3, 4, 4}, kOutputs[] = {1, 1, 2};

// An operator on a device. ONNX Runtime hands `table` back, which is the first member.
struct Op {
  ort::OpTable table;
  Kind kind;
  bool cuda;
};

// An operator in one place of one session's graph.
struct Kernel {
  const Op& op;
  Scratch scratch;
};

Handle fail(ort::Code code, const std::string& message) {
  return ort::call<ort::kCreateStatus>(api, static_cast<int>(code), message.c_str());
}

#define TRY(expression) \
  if (Handle status_ = (expression)) return status_

// Which kernels ran, on standard error, for tests and debugging.
void trace(const Op& op) {
  static const bool wanted = std::getenv("TWINLENS_TRACE_KERNELS") != nullptr;
  if (wanted) std::fprintf(stderr, "twinlens: %s on %s\n", kNames[op.kind], op.cuda ? "CUDA" : "CPU");
}

struct Input {
  int64_t dimensions[2] = {1, 1};
  void* data = nullptr;
};

Handle read_input(Handle context, size_t place, size_t rank, Input* out) {
  Handle value, shape;
  TRY(ort::call<ort::kContextInput>(api, context, place, &value));
  TRY(ort::call<ort::kGetTensorShape>(api, value, &shape));
  size_t count = 0;
  Handle status = ort::call<ort::kCountDimensions>(api, shape, &count);
  if (!status && rank == 2 && count != 2)
    status = fail(ort::kInvalidArgument, "input " + std::to_string(place) + " has rank " +
                                             std::to_string(count) + "; it must be 2");
  if (!status && rank == 2)
    status = ort::call<ort::kGetDimensions>(api, shape, out->dimensions, count);
  ort::call_void<ort::kReleaseShape>(api, shape);
  if (status) return status;
  return ort::call<ort::kTensorData>(api, value, &out->data);
}

Handle make_output(Handle context, size_t place, int64_t rows, int64_t columns, void** data) {
  const int64_t dimensions[2] = {rows, columns};
  Handle value;
  TRY(ort::call<ort::kContextOutput>(api, context, place,
                                     static_cast<const int64_t*>(dimensions), size_t{2}, &value));
  return ort::call<ort::kTensorData>(api, value, data);
}

Handle run_cpu(Kernel& kernel, Handle context, cpu::Problem& q, const float* bias) {
  if (kernel.op.kind == kSigmoid) q.bias = *bias;
  void* norms = nullptr;
  TRY(kernel.scratch.borrow(api, sizeof(float) * q.m, &norms));
  q.inverse_y = static_cast<float*>(norms);
  void* problem = &q;
  Handle status = ort::call<ort::kContextParallelFor>(
      api, context, cpu::measure_column, static_cast<size_t>(q.m), size_t{0}, problem);
  auto row = kernel.op.kind == kTopK ? cpu::pick_row : cpu::score_row;
  if (!status)
    status = ort::call<ort::kContextParallelFor>(api, context, row, static_cast<size_t>(q.n),
                                                 size_t{0}, problem);
  Handle freed = kernel.scratch.give_back(api, norms);
  return status ? status : freed;
}

Handle describe(const Op& op, int error) {
  if (!error) return nullptr;
  return fail(ort::kFail, std::string(kNames[op.kind]) + ": CUDA driver error " +
                              std::to_string(error) + " (100001: no driver, 100002: no kernel for "
                              "this GPU; rebuild with `twinlens kernels build`)");
}

Handle run_cuda(Kernel& kernel, Handle context, const cpu::Problem& q, const float* scale,
                const float* bias) {
  void *stream = nullptr, *memory = nullptr;
  TRY(ort::call<ort::kContextGpuStream>(api, context, &stream));
  if (kernel.op.kind != kTopK)
    return describe(kernel.op, cuda::score(stream, q.x, q.y, scale, bias, q.p, q.n, q.m, q.d));
  cuda::TopK plan;
  if (int error = cuda::prepare(q.x, q.y, q.n, q.m, q.d, q.k, &plan))
    return describe(kernel.op, error);
  TRY(kernel.scratch.keep(api, stream, plan.bytes(), &memory));
  return describe(kernel.op, cuda::pick(stream, plan, q.x, q.y, scale, q.p, q.index,
                                        static_cast<float*>(memory), q.n, q.m, q.d, q.k));
}

Handle compute(Kernel* kernel, Handle context) {
  const Op* op = &kernel->op;
  trace(*op);
  Input x, y, scale, last;
  TRY(read_input(context, 0, 2, &x));
  TRY(read_input(context, 1, 2, &y));
  TRY(read_input(context, 2, 0, &scale));
  if (op->kind != kSoftmax) TRY(read_input(context, 3, 0, &last));
  if (x.dimensions[1] != y.dimensions[1])
    return fail(ort::kInvalidArgument, std::string(kNames[op->kind]) + ": X is " +
                                           std::to_string(x.dimensions[1]) + " wide and Y " +
                                           std::to_string(y.dimensions[1]) + "; they must agree");
  cpu::Problem q{};
  q.x = static_cast<float*>(x.data);
  q.y = static_cast<float*>(y.data);
  q.n = x.dimensions[0], q.m = y.dimensions[0], q.d = x.dimensions[1];
  q.sigmoid = op->kind == kSigmoid;
  q.k = op->kind == kTopK ? *static_cast<int64_t*>(last.data) : q.m;
  if (q.k < 0 || q.k > q.m)
    return fail(ort::kInvalidArgument, "k is " + std::to_string(q.k) + "; it must be between 0 and "
                                           "the " + std::to_string(q.m) + " classes");
  void *p, *index = nullptr;
  TRY(make_output(context, 0, q.n, q.k, &p));
  if (op->kind == kTopK) TRY(make_output(context, 1, q.n, q.k, &index));
  q.p = static_cast<float*>(p), q.index = static_cast<int64_t*>(index);
  const auto* bias = op->kind == kSigmoid ? static_cast<float*>(last.data) : nullptr;
  if (q.k == 0 || q.n == 0) return nullptr;
  if (op->cuda) return run_cuda(*kernel, context, q, static_cast<float*>(scale.data), bias);
  q.scale = *static_cast<float*>(scale.data);
  return run_cpu(*kernel, context, q, bias);
}

// Keep the symbolic names of n and m, so that other nodes' shapes stay known.
Handle infer_shape(const Op* op, Handle context) {
  int64_t dimensions[2] = {-1, -1};
  const char* names[2] = {"", ""};
  for (size_t side = 0; side < (op->kind == kTopK ? 1 : 2); side++) {
    Handle shape;
    int64_t known[2] = {-1, -1};
    const char* symbols[2] = {"", ""};
    TRY(ort::call<ort::kInferInputShape>(api, context, side, &shape));
    TRY(ort::call<ort::kGetDimensions>(api, shape, static_cast<int64_t*>(known), size_t{2}));
    TRY(ort::call<ort::kGetSymbolicDimensions>(api, shape, static_cast<const char**>(symbols),
                                               size_t{2}));
    dimensions[side] = known[0], names[side] = symbols[0];
  }
  for (size_t place = 0; place < kOutputs[op->kind]; place++) {
    Handle shape;
    TRY(ort::call<ort::kCreateShape>(api, &shape));
    TRY(ort::call<ort::kSetElementType>(api, shape, place ? int{ort::kInt64} : int{ort::kFloat}));
    TRY(ort::call<ort::kSetDimensions>(api, shape, static_cast<const int64_t*>(dimensions),
                                       size_t{2}));
    TRY(ort::call<ort::kSetSymbolicDimensions>(api, shape, static_cast<const char**>(names),
                                               size_t{2}));
    Handle status = ort::call<ort::kInferOutputShape>(api, context, place, shape);
    ort::call_void<ort::kReleaseShape>(api, shape);
    TRY(status);
  }
  return nullptr;
}

template <class Function>
void* as_slot(Function* function) {
  return reinterpret_cast<void*>(function);
}

const char* get_name(const Op* op) { return kNames[op->kind]; }
const char* get_provider(const Op* op) {
  return op->cuda ? "CUDAExecutionProvider" : "CPUExecutionProvider";
}
int input_type(const Op* op, size_t place) {
  return op->kind == kTopK && place == 3 ? ort::kInt64 : ort::kFloat;
}
int output_type(const Op*, size_t place) { return place ? ort::kInt64 : ort::kFloat; }
size_t input_count(const Op* op) { return kInputs[op->kind]; }
size_t output_count(const Op* op) { return kOutputs[op->kind]; }
int required(const Op*, size_t) { return 0; }
int input_memory(const Op* op, size_t place) {
  // k decides a shape, so the host must read it; scale and bias stay where the kernel reads them.
  return op->kind == kTopK && place == 3 ? ort::kOnHost : ort::kOnDevice;
}
Handle create_kernel(const Op* op, const ort::Api*, Handle info, void** kernel) {
  Handle allocator = nullptr;
  TRY(ort::call<ort::kKernelAllocator>(api, info, int{ort::kOnDevice}, &allocator));
  *kernel = new Kernel{*op, Scratch(allocator)};
  return nullptr;
}
void destroy_kernel(Kernel* kernel) {
  kernel->scratch.release(api);
  delete kernel;
}
int start_version(const Op*) { return 1; }
int end_version(const Op*) { return 0x7fffffff; }

Op make_op(uint32_t version, Kind kind, bool cuda) {
  Op op{};
  op.kind = kind, op.cuda = cuda;
  ort::OpTable& t = op.table;
  t.version = version;
  t.get_name = as_slot(get_name), t.get_provider = as_slot(get_provider);
  t.input_type = as_slot(input_type), t.output_type = as_slot(output_type);
  t.input_count = as_slot(input_count), t.output_count = as_slot(output_count);
  t.input_character = t.output_character = as_slot(required);
  t.input_memory = as_slot(input_memory);
  t.create_kernel_v2 = as_slot(create_kernel), t.destroy = as_slot(destroy_kernel);
  t.compute_v2 = as_slot(compute), t.infer_shape = as_slot(infer_shape);
  t.start_version = as_slot(start_version), t.end_version = as_slot(end_version);
  return op;
}

Handle make_domain(uint32_t version, Handle* out) {
  static Op ops[6];  // ONNX Runtime keeps pointers to these
  TRY(ort::call<ort::kCreateDomain>(api, "ai.twinlens", out));
  int place = 0;
  for (Kind kind : {kSoftmax, kSigmoid, kTopK})
    for (bool on_cuda : {false, true}) {
      ops[place] = make_op(version, kind, on_cuda);
      TRY(ort::call<ort::kDomainAdd>(api, *out, &ops[place].table));
      place++;
    }
  return nullptr;
}

}  // namespace

TWINLENS_EXPORT Handle RegisterCustomOps(Handle session_options, const ort::ApiBase* base) {
  static std::mutex mutex;
  static Handle domain = nullptr;
  std::lock_guard<std::mutex> lock(mutex);
  uint32_t version = ort::kNewestApi;
  while (!(api = base->get(version)) && version > ort::kOldestApi) version--;
  if (!api) return nullptr;  // without an interface no error can be returned
  if (!domain) TRY(make_domain(version, &domain));
  return ort::call<ort::kSessionAddDomain>(api, session_options, domain);
}

// The same launches for a caller with its own stream, to test on a machine whose ONNX Runtime has no
// CUDA. Each returns the driver's error, 0 for none.
TWINLENS_EXPORT int twinlens_score_cuda(void* stream, const float* x, const float* y,
                                        const float* scale, const float* bias, float* p, int64_t n,
                                        int64_t m, int64_t d) {
  return cuda::score(stream, x, y, scale, bias, p, n, m, d);
}

// Write to `bytes` the scratch memory that a top k of these sizes needs.
TWINLENS_EXPORT int twinlens_topk_scratch(const float* x, const float* y, int64_t n, int64_t m,
                                          int64_t d, int64_t k, size_t* bytes) {
  cuda::TopK plan;
  const int error = cuda::prepare(x, y, n, m, d, k, &plan);
  *bytes = error ? 0 : plan.bytes();
  return error;
}

TWINLENS_EXPORT int twinlens_topk_cuda(void* stream, const float* x, const float* y,
                                       const float* scale, float* p, int64_t* index, float* scratch,
                                       int64_t n, int64_t m, int64_t d, int64_t k) {
  cuda::TopK plan;
  if (int error = cuda::prepare(x, y, n, m, d, k, &plan)) return error;
  return cuda::pick(stream, plan, x, y, scale, p, index, scratch, n, m, d, k);
}

TWINLENS_EXPORT int twinlens_embedded_count() { return cuda::kEmbeddedCount; }
