// The operators on the CPU: a fallback that must be correct, not fast. A file's own function body is
// faster there, so the library is registered only where CUDA runs; but a session that requested CUDA
// and did not get it fails without a CPU kernel.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

namespace cpu {

struct Problem {
  const float *x, *y;
  float scale, bias;
  int64_t n, m, d, k;
  float* p;        // (n, m), or (n, k) for the top k
  int64_t* index;  // (n, k), only for the top k
  bool sigmoid;
  float* inverse_y;  // (m,), scratch
};

inline float dot(const float* a, const float* b, int64_t d) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < d; i++) sum += a[i] * b[i];
  return sum;
}

inline float inverse_norm(const float* a, int64_t d) {
  return 1.0f / std::max(std::sqrt(dot(a, a, d)), 1e-12f);
}

inline void measure_column(void* problem, size_t j) {
  auto* q = static_cast<Problem*>(problem);
  q->inverse_y[j] = inverse_norm(q->y + j * q->d, q->d);
}

// Write scale * cosine of row i with every class.
inline void write_logits(const Problem& q, size_t i, float* out) {
  const float* x = q.x + i * q.d;
  const float factor = q.scale * inverse_norm(x, q.d);
  for (int64_t j = 0; j < q.m; j++) out[j] = dot(x, q.y + j * q.d, q.d) * q.inverse_y[j] * factor;
}

// Convert logits to exponentials relative to the largest; return their sum.
inline double exponentiate(float* row, int64_t m) {
  const float top = *std::max_element(row, row + m);
  double sum = 0;
  for (int64_t j = 0; j < m; j++) sum += row[j] = std::exp(row[j] - top);
  return sum;
}

inline void score_row(void* problem, size_t i) {
  auto& q = *static_cast<Problem*>(problem);
  float* row = q.p + i * q.m;
  write_logits(q, i, row);
  if (q.sigmoid) {
    for (int64_t j = 0; j < q.m; j++) row[j] = 1.0f / (1.0f + std::exp(-(row[j] + q.bias)));
    return;
  }
  if (q.m == 0) return;
  const double sum = exponentiate(row, q.m);
  for (int64_t j = 0; j < q.m; j++) row[j] = static_cast<float>(row[j] / sum);
}

inline void pick_row(void* problem, size_t i) {
  auto& q = *static_cast<Problem*>(problem);
  std::vector<float> row(q.m);
  write_logits(q, i, row.data());
  std::vector<int64_t> order(q.m);
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + q.k, order.end(), [&](int64_t a, int64_t b) {
    return row[a] > row[b] || (row[a] == row[b] && a < b);
  });
  const double sum = exponentiate(row.data(), q.m);
  for (int64_t c = 0; c < q.k; c++) {
    q.index[i * q.k + c] = order[c];
    q.p[i * q.k + c] = static_cast<float>(row[order[c]] / sum);
  }
}

}  // namespace cpu
