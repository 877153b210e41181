/* Resizes the visible part of a decoded RGB picture, bit for bit as Pillow does, without Python.

   Pillow resizes rows, then columns, each in fixed point: a coefficient has 22 fractional bits, a
   sum begins with half a level, and the result is shifted and clipped to 8 bits. Here:
   - only what is seen is computed;
   - a coefficient c is split as (c >> 11, c & 2047), two 16-bit halves, so that one instruction
     multiplies and adds two of them. All sums are exact modulo 2^32, and Pillow's own fit 32 bits.

   Must stay true: the same bits as Pillow for every filter, size and box; nothing is read outside
   the picture; no state is kept, so any number of threads may call. The caller knows which pictures
   Pillow resizes columns first, and keeps those.

   Pictures come as Arrow arrays (the C data interface), four bytes a pixel: Pillow hands its own
   memory out that way. Functions return 0, or -1 where memory is short or the picture unsuitable. */

#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(WITHOUT_AVX2)
#include <immintrin.h>
#define WITH_AVX2 1
#endif

#define BITS 22
#define LOW_BITS 11
#define PIXEL 4   /* bytes of a source pixel */
#define SEEN 3    /* bytes of a pixel that is written */
#define PADDING 32 /* bytes after each line of the middle picture, which is read in blocks */

/* The start of Arrow's struct ArrowArray. */
struct arrow_array {
  int64_t length, null_count, offset, n_buffers, n_children;
  const void **buffers;
  struct arrow_array **children;
};

/* One axis: `size` source pixels; the box from `from` to `to` becomes `out` pixels, of which
   `length` from `skip` are wanted. */
struct axis {
  int32_t size;
  float from, to;
  int32_t out, skip, length;
};

/* The source pixels and coefficients of each output pixel of an axis; `count` is a multiple of the
   group, unused coefficients are zero. */
struct weights {
  int width; /* coefficients of an output pixel */
  int32_t *first, *count;
  int16_t *high, *low;
};

static double box_weight(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

static double bilinear_weight(double x) {
  x = fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

static double hamming_weight(double x) {
  x = fabs(x);
  if (x == 0.0) return 1.0;
  if (x >= 1.0) return 0.0;
  x *= M_PI;
  return sin(x) / x * (0.54f + 0.46f * cos(x));
}

static double bicubic_weight(double x) {
  const double a = -0.5;
  x = fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

static double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= M_PI;
  return sin(x) / x;
}

static double lanczos_weight(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

/* By Pillow's numbers of `Image.Resampling`. */
static const struct {
  double (*weight)(double);
  double reach;
} filters[] = {{NULL, 0},          {lanczos_weight, 3}, {bilinear_weight, 1},
               {bicubic_weight, 2}, {box_weight, .5},    {hamming_weight, 1}};

static void release_weights(struct weights *weights) {
  free(weights->first);
  free(weights->count);
  free(weights->high);
  free(weights->low);
}

static int weigh(const struct axis *axis, int filter, int group, struct weights *weights) {
  const double scale = (double)(axis->to - axis->from) / axis->out;
  const double wide = scale < 1.0 ? 1.0 : scale, narrow = 1.0 / wide;
  const double reach = filters[filter].reach * wide;
  const int most = (int)ceil(reach) * 2 + 1;
  const size_t width = (size_t)(most + group - 1) / group * group;
  double *values = malloc(sizeof(double) * most);
  memset(weights, 0, sizeof *weights);
  weights->width = (int)width;
  weights->first = malloc(sizeof(int32_t) * axis->length);
  weights->count = malloc(sizeof(int32_t) * axis->length);
  weights->high = calloc(width * axis->length, sizeof(int16_t));
  weights->low = calloc(width * axis->length, sizeof(int16_t));
  if (!values || !weights->first || !weights->count || !weights->high || !weights->low) {
    free(values);
    return -1;
  }
  for (int pixel = 0; pixel < axis->length; pixel++) {
    const double centre = axis->from + (pixel + axis->skip + 0.5) * scale;
    int first = (int)(centre - reach + 0.5), last = (int)(centre + reach + 0.5);
    first = first < 0 ? 0 : first;
    last = last > axis->size ? axis->size : last;
    double sum = 0.0;
    for (int at = first; at < last; at++) {
      values[at - first] = filters[filter].weight((at - centre + 0.5) * narrow);
      sum += values[at - first];
    }
    const int padded = (last - first + group - 1) / group * group;
    /* Zeros go before the first coefficient where they would reach past the end. */
    const int room = axis->size - padded < 0 ? 0 : axis->size - padded;
    const int start = first > room ? room : first;
    int16_t *high = weights->high + (size_t)pixel * width;
    int16_t *low = weights->low + (size_t)pixel * width;
    for (int at = first; at < last; at++) {
      const double value = sum != 0.0 ? values[at - first] / sum : values[at - first];
      const int fixed = (int)((value < 0 ? -0.5 : 0.5) + value * (1 << BITS));
      high[at - start] = (int16_t)(fixed >> LOW_BITS);
      low[at - start] = (int16_t)(fixed & ((1 << LOW_BITS) - 1));
    }
    weights->first[pixel] = start;
    weights->count[pixel] = padded < axis->size - start ? padded : axis->size - start;
  }
  free(values);
  return 0;
}

static inline uint8_t clip(int32_t sum) {
  const int32_t level = sum >> BITS;
  return (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
}

static inline int32_t coefficient(const int16_t *high, const int16_t *low, int at) {
  return (int32_t)((uint32_t)(int32_t)high[at] << LOW_BITS) + low[at];
}

static void rows_plain(const uint8_t *source, size_t stride, int rows, int length,
                       const struct weights *weights, uint8_t *middle, size_t pitch) {
  for (int row = 0; row < rows; row++, source += stride, middle += pitch) {
    for (int pixel = 0; pixel < length; pixel++) {
      const int16_t *high = weights->high + (size_t)pixel * weights->width;
      const int16_t *low = weights->low + (size_t)pixel * weights->width;
      const uint8_t *from = source + (size_t)PIXEL * weights->first[pixel];
      int32_t red = 1 << (BITS - 1), green = red, blue = red;
      for (int at = 0; at < weights->count[pixel]; at++, from += PIXEL) {
        const int32_t value = coefficient(high, low, at);
        red += from[0] * value;
        green += from[1] * value;
        blue += from[2] * value;
      }
      middle[SEEN * pixel] = clip(red);
      middle[SEEN * pixel + 1] = clip(green);
      middle[SEEN * pixel + 2] = clip(blue);
    }
  }
}

static void columns_plain(const uint8_t *middle, size_t pitch, int length, int line,
                          const struct weights *weights, uint8_t *target) {
  for (int row = 0; row < length; row++, target += line) {
    const int16_t *high = weights->high + (size_t)row * weights->width;
    const int16_t *low = weights->low + (size_t)row * weights->width;
    const uint8_t *from = middle + pitch * weights->first[row];
    for (int x = 0; x < line; x++) {
      int32_t sum = 1 << (BITS - 1);
      for (int at = 0; at < weights->count[row]; at++)
        sum += from[pitch * at + x] * coefficient(high, low, at);
      target[x] = clip(sum);
    }
  }
}

#ifdef WITH_AVX2
#define AVX2 __attribute__((target("avx2")))

AVX2 static inline __m256i both(const int16_t *pair) {
  int32_t value;
  memcpy(&value, pair, sizeof value);
  return _mm256_set1_epi32(value);
}

AVX2 static inline __m256i add_products(__m256i sum, __m256i levels, __m256i factors) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(levels, factors));
}

#define ROWS 4 /* rows that share the loads of coefficients */

/* The coefficients of four pixels as a register takes them: four times those of the first two
   pixels, four times those of the others. */
struct quad {
  int16_t high[16], low[16];
};

static struct quad *spread(const struct weights *weights, int length) {
  const int steps = weights->width / 4;
  struct quad *quads = aligned_alloc(64, sizeof(struct quad) * steps * length);
  for (int at = 0; quads && at < steps * length; at++)
    for (int slot = 0; slot < 16; slot++) {
      const int from = 4 * at + slot / 8 * 2 + slot % 2;
      quads[at].high[slot] = weights->high[from];
      quads[at].low[slot] = weights->low[from];
    }
  return quads;
}

/* Return the levels of two rows, whose sums are each in two halves. */
AVX2 static inline __m256i add_halves(__m256i a, __m256i b) {
  const __m256i lower = _mm256_permute2x128_si256(a, b, 0x20);
  const __m256i upper = _mm256_permute2x128_si256(a, b, 0x31);
  return _mm256_srai_epi32(_mm256_add_epi32(lower, upper), BITS);
}

static inline void write_pixel(uint8_t *to, int32_t bytes) { memcpy(to, &bytes, 4); }

/* Four rows at a time, four source pixels a step: each half of a register sums two of them. */
AVX2 static int rows_avx2(const uint8_t *source, size_t stride, int rows, int length,
                          const struct weights *weights, uint8_t *middle, size_t pitch) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i half = _mm256_castsi128_si256(_mm_set1_epi32(1 << (BITS - 1)));
  const __m256i start = _mm256_inserti128_si256(half, _mm_setzero_si128(), 1);
  const __m256i in_pairs = _mm256_setr_epi8(
      0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1,
      8, -1, 12, -1, 9, -1, 13, -1, 10, -1, 14, -1, 11, -1, 15, -1);
  const int steps = weights->width / 4;
  struct quad *quads = spread(weights, length);
  if (!quads) return -1;
  for (int row = 0; row < rows; row += ROWS) {
    const uint8_t *from[ROWS];
    uint8_t *to[ROWS];
    for (int r = 0; r < ROWS; r++) { /* the last row is computed again where there is no other */
      const size_t at = row + r < rows ? row + r : rows - 1;
      from[r] = source + stride * at;
      to[r] = middle + pitch * at;
    }
    for (int pixel = 0; pixel < length; pixel++) {
      const struct quad *quad = quads + (size_t)pixel * steps;
      size_t offset = (size_t)PIXEL * weights->first[pixel];
      __m256i high[ROWS], low[ROWS];
      for (int r = 0; r < ROWS; r++) high[r] = zero, low[r] = start;
      for (int at = 0; at < weights->count[pixel]; at += 4, offset += 4 * PIXEL, quad++) {
        const __m256i highs = _mm256_load_si256((const void *)quad->high);
        const __m256i lows = _mm256_load_si256((const void *)quad->low);
        for (int r = 0; r < ROWS; r++) {
          const __m128i four = _mm_loadu_si128((const void *)(from[r] + offset));
          const __m256i levels = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(four), in_pairs);
          high[r] = add_products(high[r], levels, highs);
          low[r] = add_products(low[r], levels, lows);
        }
      }
      for (int r = 0; r < ROWS; r++)
        high[r] = _mm256_add_epi32(_mm256_slli_epi32(high[r], LOW_BITS), low[r]);
      const __m256i levels =
          _mm256_packs_epi32(add_halves(high[0], high[1]), add_halves(high[2], high[3]));
      const __m256i bytes = _mm256_packus_epi16(levels, levels); /* rows 0, 2 | rows 1, 3 */
      const __m128i even = _mm256_castsi256_si128(bytes), odd = _mm256_extracti128_si256(bytes, 1);
      /* The next pixel overwrites the fourth byte. */
      write_pixel(to[0] + SEEN * pixel, _mm_cvtsi128_si32(even));
      write_pixel(to[1] + SEEN * pixel, _mm_cvtsi128_si32(odd));
      write_pixel(to[2] + SEEN * pixel, _mm_extract_epi32(even, 1));
      write_pixel(to[3] + SEEN * pixel, _mm_extract_epi32(odd, 1));
    }
  }
  free(quads);
  return 0;
}

/* Sixteen bytes of a line at a time, two source rows a step. */
AVX2 static void columns_avx2(const uint8_t *middle, size_t pitch, int length, int line,
                              const struct weights *weights, uint8_t *target) {
  const __m256i zero = _mm256_setzero_si256(), half = _mm256_set1_epi32(1 << (BITS - 1));
  for (int row = 0; row < length; row++, target += line) {
    const int16_t *high = weights->high + (size_t)row * weights->width;
    const int16_t *low = weights->low + (size_t)row * weights->width;
    for (int x = 0; x < line; x += 16) {
      const uint8_t *from = middle + pitch * weights->first[row] + x;
      __m256i high0 = zero, high1 = zero, low0 = half, low1 = half;
      for (int at = 0; at < weights->count[row]; at += 2, from += 2 * pitch) {
        const __m256i upper = _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)from));
        const __m256i lower = _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)(from + pitch)));
        const __m256i even = _mm256_unpacklo_epi16(upper, lower);
        const __m256i odd = _mm256_unpackhi_epi16(upper, lower);
        high0 = add_products(high0, even, both(high + at));
        high1 = add_products(high1, odd, both(high + at));
        low0 = add_products(low0, even, both(low + at));
        low1 = add_products(low1, odd, both(low + at));
      }
      const __m256i sum0 = _mm256_add_epi32(_mm256_slli_epi32(high0, LOW_BITS), low0);
      const __m256i sum1 = _mm256_add_epi32(_mm256_slli_epi32(high1, LOW_BITS), low1);
      __m256i levels =
          _mm256_packs_epi32(_mm256_srai_epi32(sum0, BITS), _mm256_srai_epi32(sum1, BITS));
      levels = _mm256_permute4x64_epi64(_mm256_packus_epi16(levels, zero), 0x08);
      const __m128i result = _mm256_castsi256_si128(levels);
      if (x + 16 <= line) {
        _mm_storeu_si128((void *)(target + x), result);
      } else {
        uint8_t rest[16];
        _mm_storeu_si128((void *)rest, result);
        memcpy(target + x, rest, line - x);
      }
    }
  }
}
#endif

/* Whether this processor has the fast instructions. */
int twinlens_is_vectorised(void) {
#ifdef WITH_AVX2
  return __builtin_cpu_supports("avx2") != 0;
#else
  return 0;
#endif
}

/* The fast loops step by groups, for which an axis of fewer pixels has no room. */
static int fits(const struct axis *axis, int filter, int group) {
  const double scale = (double)(axis->to - axis->from) / axis->out;
  const double reach = filters[filter].reach * (scale < 1.0 ? 1.0 : scale);
  return axis->size >= ((int)ceil(reach) * 2 + 1 + group - 1) / group * group;
}

static int is_valid(const struct axis *axis, int filter) {
  return filter >= 1 && filter <= 5 && axis->size > 0 && axis->length > 0 && axis->skip >= 0 &&
         axis->out >= axis->length && axis->skip <= axis->out - axis->length && axis->from >= 0 &&
         axis->to > axis->from && axis->to <= (float)axis->size && axis->length < INT_MAX / 64;
}

/* Bytes from one line of the middle picture to the next. */
size_t twinlens_pitch(int32_t length) { return ((size_t)length * SEEN + 63) / 32 * 32 + PADDING; }

/* The lines of the middle picture that its columns need: from *first to before the result. */
static int needed_rows(const struct weights *weights, int length, int *first) {
  int last = 0;
  *first = INT_MAX;
  for (int pixel = 0; pixel < length; pixel++) {
    const int start = weights->first[pixel], end = start + weights->count[pixel];
    *first = start < *first ? start : *first;
    last = end > last ? end : last;
  }
  return last;
}

static int weigh_columns(const struct axis *y, int filter, struct weights *weights, int *is_fast) {
  *is_fast = twinlens_is_vectorised() && fits(y, filter, 2);
  return weigh(y, filter, *is_fast ? 2 : 1, weights);
}

static int resize_rows(const struct arrow_array *picture, int width, int left, int top, int rows,
                       const struct axis *x, int filter, uint8_t *middle) {
  struct weights weights;
  if (left < 0 || top < 0 || rows < 1 || left > width - x->size || picture->n_children != 1 ||
      picture->children[0]->n_buffers != 2 ||
      (int64_t)width * (top + (int64_t)rows) > picture->length)
    return -1;
  const int is_fast = twinlens_is_vectorised() && fits(x, filter, 4);
  const size_t stride = (size_t)PIXEL * width, pitch = twinlens_pitch(x->length);
  const uint8_t *pixels = picture->children[0]->buffers[1];
  const uint8_t *source = pixels + stride * top + PIXEL * (size_t)left;
  int failed = weigh(x, filter, is_fast ? 4 : 1, &weights);
#ifdef WITH_AVX2
  if (!failed && is_fast)
    failed = rows_avx2(source, stride, rows, x->length, &weights, middle, pitch);
#endif
  if (!failed && !is_fast)
    rows_plain(source, stride, rows, x->length, &weights, middle, pitch);
  release_weights(&weights);
  return failed;
}

static void resize_columns(const uint8_t *middle, int length, int seen, int is_fast,
                           const struct weights *weights, uint8_t *target) {
#ifdef WITH_AVX2
  if (is_fast) {
    columns_avx2(middle, twinlens_pitch(length), seen, length * SEEN, weights, target);
    return;
  }
#endif
  (void)is_fast;
  columns_plain(middle, twinlens_pitch(length), seen, length * SEEN, weights, target);
}

/* Rows, then columns: `target` takes y->length lines of x->length pixels of three bytes. */
int twinlens_resize(const struct arrow_array *picture, int32_t width, int32_t left, int32_t top,
                    const struct axis *x, const struct axis *y, int32_t filter, uint8_t *target) {
  struct weights weights;
  int first, is_fast;
  if (!is_valid(x, filter) || !is_valid(y, filter)) return -1;
  int failed = weigh_columns(y, filter, &weights, &is_fast);
  if (!failed) {
    const int rows = needed_rows(&weights, y->length, &first) - first;
    uint8_t *middle = malloc(twinlens_pitch(x->length) * (size_t)rows);
    failed = middle ? resize_rows(picture, width, left, top + first, rows, x, filter, middle) : -1;
    for (int pixel = 0; pixel < y->length; pixel++) weights.first[pixel] -= first;
    if (!failed) resize_columns(middle, x->length, y->length, is_fast, &weights, target);
    free(middle);
  }
  release_weights(&weights);
  return failed;
}

/* The same in parts, for a picture that comes in bands: the source rows that are needed, */
int twinlens_needed_rows(const struct axis *y, int32_t filter, int32_t *first, int32_t *last) {
  struct weights weights;
  int is_fast;
  int failed = is_valid(y, filter) ? weigh_columns(y, filter, &weights, &is_fast) : -1;
  if (!failed) *last = needed_rows(&weights, y->length, first);
  if (is_valid(y, filter)) release_weights(&weights);
  return failed;
}

/* the rows of each band, */
int twinlens_resize_rows(const struct arrow_array *picture, int32_t width, int32_t left, int32_t top,
                         int32_t rows, const struct axis *x, int32_t filter, uint8_t *middle) {
  if (!is_valid(x, filter)) return -1;
  return resize_rows(picture, width, left, top, rows, x, filter, middle);
}

/* and the columns of all; the first line of `middle` is source row `first`. */
int twinlens_resize_columns(const uint8_t *middle, int32_t first, int32_t rows, int32_t length,
                            const struct axis *y, int32_t filter, uint8_t *target) {
  struct weights weights;
  int is_fast, from = 0;
  if (!is_valid(y, filter)) return -1;
  int failed = weigh_columns(y, filter, &weights, &is_fast);
  if (!failed) {
    const int last = needed_rows(&weights, y->length, &from);
    failed = from < first || last - first > rows ? -1 : 0;
  }
  if (!failed) {
    for (int pixel = 0; pixel < y->length; pixel++) weights.first[pixel] -= first;
    resize_columns(middle, length, y->length, is_fast, &weights, target);
  }
  release_weights(&weights);
  return failed;
}
