// The operators on CUDA: the embedded machine code, loaded and launched through the driver, which is
// found at run time. Nothing of CUDA is needed to build this or to load it on a machine without.
#pragma once
#include <dlfcn.h>

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
  int (*allocate)(Address*, size_t, void*);
  int (*release)(Address, void*);
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
            find(library, "cuLaunchKernel", launch) &&
            find(library, "cuMemAllocAsync", allocate) &&
            find(library, "cuMemFreeAsync", release);
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

// p (n, m) = softmax(scale * cosine), or with a bias sigmoid(scale * cosine + bias).
inline int score(void* stream, const float* x, const float* y, const float* scale,
                 const float* bias, float* p, int64_t n, int64_t m, int64_t d) {
  if (!driver().found) return kNoDriver;
  if (n == 0 || m == 0) return 0;
  Loaded k;
  const char* name = bias ? "similarity_kernel_sigmoid" : "similarity_kernel";
  if (int error = load(name, is_aligned(x, y, d), &k)) return error;
  const int rows = n, columns = m, width = d;
  return launch(k, divide_up(n, k.embedded->rows), 1, stream, x, y, scale, bias ? bias : scale, p,
                rows, columns, width, width, width, columns);
}

// p (n, k) and index (n, k), best first; the scratch lives in the stream's own order.
inline int pick(void* stream, const float* x, const float* y, const float* scale, float* p,
                int64_t* index, int64_t n, int64_t m, int64_t d, int64_t k) {
  if (!driver().found) return kNoDriver;
  if (n == 0) return 0;
  Loaded maxima, select;
  const bool aligned = is_aligned(x, y, d);
  if (int error = load("tile_maxima_kernel", aligned, &maxima)) return error;
  if (int error = load("select_kernel", aligned, &select)) return error;
  int processors = 0;
  if (int error = device_attribute(kProcessors, &processors)) return error;
  const int rows = n, columns = m, width = d, wanted = k;
  const int tiles = divide_up(m, maxima.embedded->columns);
  const int bands = divide_up(n, maxima.embedded->rows);
  const int splits = std::min(std::max(1, 2 * processors / bands), std::min(tiles, 512));
  const int picks = std::min(wanted, tiles);
  const size_t best = static_cast<size_t>(n) * tiles, partial = static_cast<size_t>(n) * splits;
  const size_t found = static_cast<size_t>(n) * 2 * picks * select.embedded->columns;
  Address memory = 0;
  if (int error = driver().allocate(&memory, 4 * (best + 2 * partial + found), stream)) return error;
  const Address top = memory + 4 * best, total = top + 4 * partial, scratch = total + 4 * partial;
  int error = launch(maxima, bands, splits, stream, x, y, scale, memory, top, total, rows, columns,
                     width, width, width, tiles);
  if (!error)
    error = launch(select, rows, 1, stream, x, y, scale, memory, top, total, scratch, p, index,
                   columns, width, width, width, tiles, splits, picks, wanted);
  const int freed = driver().release(memory, stream);
  return error ? error : freed;
}

}  // namespace cuda
