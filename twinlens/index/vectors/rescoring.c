/* From candidates to answers: scores rows by their halves, keeps the best, copies their records.

   Code and data of one search are cold after the library that proposed the candidates; so what is
   left to do for a lone query is one call here instead of thirty in Python and NumPy.

   Must stay true: nothing outside the arrays that the caller names is read, whatever candidates and
   tables say; no state is kept, so any number of threads may call. Halves are finite. Scores are
   float32 sums of float32 products, whose order differs between machines. */

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(WITHOUT_AVX2)
#include <immintrin.h>
#define WITH_AVX2 1
#endif

#define LINE 64  /* bytes of a cache line */
#define AHEAD 16  /* rows that are fetched before they are scored */
#define TOO_FEW -1

#ifdef __GNUC__
#define FETCH(address) __builtin_prefetch(address)
#else
#define FETCH(address) (void)(address)
#endif

/* One record of `items.bin`: where it starts, its length, its checksum. */
struct entry {
  int64_t start;
  uint32_t length, sum;
};

/* The rows of a segment, and the records of their items. */
struct rows {
  const uint16_t *halves;
  int64_t count, dim;
  const uint8_t *text;
  int64_t text_bytes;
  const struct entry *table;
};

typedef float (*dot_of)(const uint16_t *row, const float *query, int64_t dim);

/* The bits of a half lie 13 lower in a float32, whose exponents begin 112 earlier. */
static inline float widen(uint16_t half) {
  const uint32_t bits = (uint32_t)(half & 0x8000) << 16 | (uint32_t)(half & 0x7fff) << 13;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value * 0x1p112f;
}

static float dot_plain(const uint16_t *row, const float *query, int64_t dim) {
  float sums[8] = {0};
  int64_t at = 0;
  for (; at + 8 <= dim; at += 8)
    for (int lane = 0; lane < 8; lane++) sums[lane] += widen(row[at + lane]) * query[at + lane];
  for (; at < dim; at++) sums[0] += widen(row[at]) * query[at];
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

#ifdef WITH_AVX2
__attribute__((target("avx2,fma,f16c"))) static float dot_avx2(const uint16_t *row,
                                                               const float *query, int64_t dim) {
  __m256 first = _mm256_setzero_ps(), second = first;
  int64_t at = 0;
  for (; at + 16 <= dim; at += 16) {
    const __m256 low = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(row + at)));
    const __m256 high = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(row + at + 8)));
    first = _mm256_fmadd_ps(low, _mm256_loadu_ps(query + at), first);
    second = _mm256_fmadd_ps(high, _mm256_loadu_ps(query + at + 8), second);
  }
  const __m256 both = _mm256_add_ps(first, second);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  float sum = _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  for (; at < dim; at++) sum += widen(row[at]) * query[at];
  return sum;
}
#endif

static dot_of choose_dot(void) {
#ifdef WITH_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c"))
    return dot_avx2;
#endif
  return dot_plain;
}

static inline void fetch_row(const uint16_t *row, int64_t dim) {
  const char *bytes = (const char *)row;
  for (int64_t at = 0; at < 2 * dim; at += LINE) FETCH(bytes + at);
}

static inline int64_t place_at(const void *candidates, int is_wide, int64_t at) {
  if (is_wide) return ((const int64_t *)candidates)[at];
  const uint32_t place = ((const uint32_t *)candidates)[at];
  return place == UINT32_MAX ? -1 : (int64_t)place;
}

/* Put a row among the best so far, best first; of equal ones the lower row comes first. Return how
   many there are. */
static int64_t insert(double *scores, int64_t *places, int64_t held, int64_t k, double score,
                      int64_t place) {
  int64_t at = held < k ? held : k;
  while (at > 0 &&
         (score > scores[at - 1] || (score == scores[at - 1] && place < places[at - 1]))) {
    if (at < k) {
      scores[at] = scores[at - 1];
      places[at] = places[at - 1];
    }
    at--;
  }
  if (at == k) return held;
  scores[at] = score;
  places[at] = place;
  return held < k ? held + 1 : k;
}

/* Copy the records of rows as one JSON array; return its bytes, or where there is no room for them
   the bytes needed, less than 0. */
static int64_t copy_records(const struct rows *rows, const int64_t *places, int64_t k, uint8_t *text,
                            int64_t room) {
  int64_t needed = 1 + k;
  for (int64_t at = 0; at < k; at++) {
    const struct entry *entry = rows->table + places[at];
    if (entry->start < 0 || entry->start > rows->text_bytes - (int64_t)entry->length)
      return TOO_FEW;
    FETCH(rows->text + entry->start);
    needed += entry->length;
  }
  if (needed > room) return -needed;
  uint8_t *to = text;
  for (int64_t at = 0; at < k; at++) {
    const struct entry *entry = rows->table + places[at];
    *to++ = at ? ',' : '[';
    memcpy(to, rows->text + entry->start, entry->length);
    to += entry->length;
  }
  *to++ = ']';
  return to - text;
}

/* The inner product of a query with each of some rows, which the caller knows to exist. */
void twinlens_score(const uint16_t *halves, int64_t dim, const float *query, const int64_t *places,
                    int64_t count, float *scores) {
  const dot_of dot = choose_dot();
  for (int64_t at = 0; at < count && at < AHEAD; at++) fetch_row(halves + places[at] * dim, dim);
  for (int64_t at = 0; at < count; at++) {
    if (at + AHEAD < count) fetch_row(halves + places[at + AHEAD] * dim, dim);
    scores[at] = dot(halves + places[at] * dim, query, dim);
  }
}

/* Fill the desk with the answers to a query: k scores (double), k rows (int64), and the records of
   their items as one JSON array. Candidates are int64, or uint32 where they are not wide; the
   largest is none. Return the bytes of the array; `TOO_FEW`, if k rows are not among the
   candidates; or the bytes of text that it takes, less than 0, if there is less room. */
int64_t twinlens_answer(const struct rows *rows, const float *query, const void *candidates,
                        int32_t is_wide, int64_t count, int64_t k, uint8_t *desk, int64_t room) {
  const dot_of dot = choose_dot();
  const int64_t dim = rows->dim;
  double *scores = (double *)desk;
  int64_t *places = (int64_t *)(desk + 8 * k), held = 0;
  for (int64_t at = 0; at < count + AHEAD; at++) {
    if (at < count) {
      const int64_t place = place_at(candidates, is_wide, at);
      if (place >= 0 && place < rows->count) {
        fetch_row(rows->halves + place * dim, dim);
        FETCH(rows->table + place);
      }
    }
    if (at < AHEAD) continue;
    const int64_t place = place_at(candidates, is_wide, at - AHEAD);
    if (place < 0 || place >= rows->count) continue;
    held = insert(scores, places, held, k, dot(rows->halves + place * dim, query, dim), place);
  }
  return held < k ? TOO_FEW : copy_records(rows, places, k, desk + 16 * k, room - 16 * k);
}
