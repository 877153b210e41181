// The operators on CUDA: the embedded machine code, loaded and launched through the driver, which is
// found at run time. Building it, or loading it on a machine without a GPU, needs no part of CUDA.
#pragma once
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <tuple>

namespace cuda {

// One embedded kernel. `arch` 0 marks PTX, which the driver compiles for a GPU that has no cubin.
struct Embedded {
  const char *kernel, *entry;
  int arch;
  bool aligned;
  const unsigned char* image;
  unsigned shared, warps, rows, columns;
};
#include "embedded_kernels.inc"  // const Embedded kEmbedded[]; const int kEmbeddedCount

constexpr int kNoDriver = 100001, kNoKernel = 100002;
constexpr int kMajor = 75, kMinor = 76, kMaxShared = 8, kProcessors = 16;

using Address = unsigned long long;

struct Driver {
  int (*get_context)(void**);
  int (*get_device)(int*);
  int (*get_attribute)(int*, int, int);
  int (*load_module)(void**, const void*);
  int (*get_function)(void**, void*, const char*);
  int (*set_attribute)(void*, int, int);
  int (*launch)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*,
                void**, void**);
  bool found = false;

  Driver() {
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (!library) return;
    found = find(library, "cuCtxGetCurrent", get_context) &&
            find(library, "cuCtxGetDevice", get_device) &&
            find(library, "cuDeviceGetAttribute", get_attribute) &&
            find(library, "cuModuleLoadData", load_module) &&
            find(library, "cuModuleGetFunction", get_function) &&
            find(library, "cuFuncSetAttribute", set_attribute) &&
            find(library, "cuLaunchKernel", launch);
  }

  template <class Function>
  static bool find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    return function != nullptr;
  }
};

inline const Driver& driver() {
  static const Driver instance;
  return instance;
}

struct Loaded {
  void* function;
  const Embedded* embedded;
};

inline int device_attribute(int which, int* value) {
  int device = 0;
  if (int error = driver().get_device(&device)) return error;
  return driver().get_attribute(value, which, device);
}

// Choose among the embedded kernels: the cubin of this architecture family, else PTX.
inline const Embedded* choose(const char* kernel, bool aligned, int arch) {
  const Embedded* best = nullptr;
  for (int i = 0; i < kEmbeddedCount; i++) {
    const Embedded& e = kEmbedded[i];
    if (std::char_traits<char>::compare(e.kernel, kernel, 64) != 0 || e.aligned != aligned) continue;
    if (e.arch / 10 == arch / 10 && e.arch <= arch) return &e;
    if (e.arch == 0) best = &e;
  }
  return best;
}

// Load once per context. The first call is not allowed inside a graph capture; a warm-up makes it.
inline int load(const char* kernel, bool aligned, Loaded* out) {
  static std::mutex mutex;
  static std::map<std::tuple<void*, const char*, bool>, Loaded> cache;
  void* context = nullptr;
  if (int error = driver().get_context(&context)) return error;
  std::lock_guard<std::mutex> lock(mutex);
  auto& slot = cache[{context, kernel, aligned}];
  if (!slot.function) {
    int major = 0, minor = 0;
    if (int error = device_attribute(kMajor, &major)) return error;
    if (int error = device_attribute(kMinor, &minor)) return error;
    const Embedded* e = choose(kernel, aligned, 10 * major + minor);
    if (!e) return kNoKernel;
    void *module = nullptr, *function = nullptr;
    if (int error = driver().load_module(&module, e->image)) return error;
    if (int error = driver().get_function(&function, module, e->entry)) return error;
    if (e->shared > 48 * 1024)
      if (int error = driver().set_attribute(function, kMaxShared, e->shared)) return error;
    slot = {function, e};
  }
  *out = slot;
  return 0;
}

// Launch with the arguments in the kernel's order; two null pointers follow, for scratch memory
// that these kernels do not use.
template <class... Arguments>
inline int launch(const Loaded& k, unsigned across, unsigned down, void* stream,
                  Arguments... arguments) {
  void *scratch = nullptr, *profile = nullptr;
  void* list[] = {&arguments..., &scratch, &profile};
  return driver().launch(k.function, across, down, 1, 32 * k.embedded->warps, 1, 1,
                         k.embedded->shared, stream, list, nullptr);
}

inline bool is_aligned(const float* x, const float* y, int64_t d) {
  const auto bits = reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y);
  return d % 16 == 0 && bits % 16 == 0;
}

inline unsigned divide_up(int64_t a, int64_t b) { return static_cast<unsigned>((a + b - 1) / b); }

constexpr int64_t kMiddle = 150000;     // logits from which wider tiles measured faster
constexpr int64_t kMostBlocks = 65535;  // of a grid's second dimension
constexpr int64_t kMostSplits = 512;    // that the kernel which combines them reads at once

// p (n, m) = softmax(scale * cosine), or with a bias sigmoid(scale * cosine + bias). The classes are
// split over programs; a second launch converts rows of logits, stored in p, to probabilities.
// Neither needs scratch memory or waits for the device, so both can be captured in a graph.
inline int score(void* stream, const float* x, const float* y, const float* scale,
                 const float* bias, float* p, int64_t n, int64_t m, int64_t d) {
  if (!driver().found) return kNoDriver;
  if (n == 0 || m == 0) return 0;
  Loaded logits, rows;
  const bool aligned = is_aligned(x, y, d), middle = aligned && n * m >= kMiddle;
  const char* name = middle ? bias ? "score_kernel_sigmoid_middle" : "score_kernel_middle"
                            : bias ? "score_kernel_sigmoid" : "score_kernel";
  if (int error = load(name, aligned, &logits)) return error;
  if (!bias)
    if (int error = load("normalise_rows_kernel_once", true, &rows)) return error;
  if (!bias && m > rows.embedded->columns)
    if (int error = load("normalise_rows_kernel", true, &rows)) return error;
  const int height = n, length = m, width = d;
  const float* shift = bias ? bias : scale;
  const int64_t tiles = divide_up(m, logits.embedded->columns);
  int error = launch(logits, divide_up(n, logits.embedded->rows), std::min(tiles, kMostBlocks),
                     stream, x, y, scale, shift, p, p, p, p, p, height, length, width, width, width,
                     length);
  if (error || bias) return error;
  return launch(rows, height, 1, stream, p, scale, scale, p, p, length, length);
}

// How the top k of these sizes is split, and the scratch memory that it needs.
struct TopK {
  Loaded maxima, select;
  int64_t tiles = 0, bands = 0, splits = 0, picks = 0, best = 0, partial = 0, found = 0;

  size_t bytes() const { return 4 * static_cast<size_t>(best + 2 * partial + found); }
};

inline int prepare(const float* x, const float* y, int64_t n, int64_t m, int64_t d, int64_t k,
                   TopK* out) {
  if (!driver().found) return kNoDriver;
  const bool aligned = is_aligned(x, y, d);
  if (int error = load("tile_maxima_kernel", aligned, &out->maxima)) return error;
  if (int error = load("select_kernel", aligned, &out->select)) return error;
  int processors = 0;
  if (int error = device_attribute(kProcessors, &processors)) return error;
  out->tiles = divide_up(m, out->maxima.embedded->columns);
  out->bands = divide_up(n, out->maxima.embedded->rows);
  const int64_t wanted = 2 * processors / std::max<int64_t>(1, out->bands);
  out->splits = std::min({std::max<int64_t>(1, wanted), out->tiles, kMostSplits});
  out->picks = std::min(k, out->tiles);
  out->best = n * out->tiles, out->partial = n * out->splits;
  out->found = n * 2 * out->picks * out->select.embedded->columns;
  return 0;
}

// p (n, k) and index (n, k), best first; `memory` is scratch of `plan.bytes()`.
inline int pick(void* stream, const TopK& plan, const float* x, const float* y, const float* scale,
                float* p, int64_t* index, float* memory, int64_t n, int64_t m, int64_t d,
                int64_t k) {
  if (n == 0) return 0;
  const int height = n, length = m, width = d, wanted = k;
  const int tiles = plan.tiles, splits = plan.splits, picks = plan.picks;
  float *top = memory + plan.best, *total = top + plan.partial, *found = total + plan.partial;
  int error = launch(plan.maxima, plan.bands, splits, stream, x, y, scale, memory, top, total,
                     height, length, width, width, width, tiles);
  if (error) return error;
  return launch(plan.select, height, 1, stream, x, y, scale, memory, top, total, found, p, index,
                length, width, width, width, tiles, splits, picks, wanted);
}

}  // namespace cuda
