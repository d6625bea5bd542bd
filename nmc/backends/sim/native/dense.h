// Dense convolution of byte payloads with int8 weights: tiles of rows (sites and steps that see the same taps) times
// 16, 32 or 64 output channels; four input channels ("a quad") per 32-bit lane. Taps outside the source are left out
// instead of multiplied with zeros.
//
// Weights: per sub-block of up to 64 channels [tap][quad][channel][4].
#pragma once
#include "kernels.h"
#include "simd.h"

namespace nmc {
namespace {

constexpr int kSubBlock = 64;

size_t dense_bytes(int width, int quads, int taps) { return static_cast<size_t>(width) * quads * 4 * taps; }

void pack_dense(const int8_t *dense_weights, int width, int window, int quads, int taps, int8_t *out) {
  for (int o = 0; o < width; o++) {
    const int in_sub = o % kSubBlock, sub_width = width < kSubBlock ? width : kSubBlock;
    int8_t *sub = out + dense_bytes(o - in_sub, quads, taps);
    for (int tap = 0; tap < taps; tap++) {
      for (int c = 0; c < quads * 4; c++) {
        const size_t quad = static_cast<size_t>(tap) * quads + c / 4;
        sub[(quad * sub_width + in_sub) * 4 + c % 4] =
            c < window ? dense_weights[(o * static_cast<size_t>(window) + c) * taps + tap] : int8_t{0};
      }
    }
  }
}

#if defined(NMC_AVX512) || defined(NMC_AVX2)

// The taps that output (y, x) sees, as runs that are contiguous in the source and in the weights.
inline int segments_of(const DenseArgs &a, int y, int x, Segment *segments) {
  const Geometry &g = a.geometry;
  const int left = x * g.stride_w - g.pad_w;
  const bool whole_rows = g.dilation_w == 1 && a.first_channel == 0 && g.source_cs == 4 * a.quads;
  int count = 0;
  for (int ky = 0; ky < g.kernel_h; ky++) {
    const int iy = y * g.stride_h - g.pad_h + ky * g.dilation_h;
    if (static_cast<unsigned>(iy) >= static_cast<unsigned>(g.source_h)) continue;
    const size_t row = static_cast<size_t>(iy) * g.source_w;
    for (int kx = 0; kx < g.kernel_w;) {
      const int ix = left + kx * g.dilation_w;
      if (static_cast<unsigned>(ix) >= static_cast<unsigned>(g.source_w)) {
        kx++;
        continue;
      }
      int run = 1;
      if (whole_rows)
        while (kx + run < g.kernel_w && ix + run < g.source_w) run++;
      // Relative to this x, so that every x of the class can use it: `left` is added back by the row pointers.
      segments[count].input = (row + kx * g.dilation_w) * g.source_cs + a.first_channel;
      segments[count].weight = (static_cast<size_t>(ky) * g.kernel_w + kx) * a.quads;
      segments[count].quads = run * a.quads;
      count++;
      kx += run;
    }
  }
  return count;
}

// Columns with the same number see the same kernel columns; interior columns are all alike.
inline int tap_class(const Geometry &g, int x) {
  const int left = x * g.stride_w - g.pad_w, right = left + (g.kernel_w - 1) * g.dilation_w;
  return left >= 0 && right < g.source_w ? -1 : x;
}

NMC_INLINE void put_currents(int32_t *acc, I32 sum, int shift, bool add) {
  const I32 current = sum << shift;
  store(acc, add ? load(acc) + current : current);
}

NMC_INLINE int32_t quad_at(const uint8_t *p) {
  int32_t quad;
  memcpy(&quad, p, sizeof quad);
  return quad;
}

#if defined(NMC_AVX512)

// total += four products per lane. Written out, because GCC 12 copies every accumulator around the intrinsic and then
// runs out of registers.
NMC_INLINE void multiply_add(__m512i &total, __m512i x, __m512i weights) {
  asm("vpdpbusd %2, %1, %0" : "+v"(total) : "v"(x), "v"(weights));
}

// VECTORS * 16 output channels. u8 x s8 products are summed in 32 bits without saturation.
template <int ROWS, int VECTORS>
NMC_NOINLINE void tile(const uint8_t *const *rows, const Segment *segments, int segment_count, const int8_t *weights,
                     int shift, bool add, int32_t *acc, int width) {
  __m512i total[ROWS][VECTORS] = {};
  for (int i = 0; i < segment_count; i++) {
    const int8_t *w = weights + segments[i].weight * (64 * VECTORS);
    size_t at = segments[i].input;
    for (int q = segments[i].quads; q > 0; q--, at += 4, w += 64 * VECTORS) {
      __m512i column[VECTORS];
      NMC_UNROLL for (int j = 0; j < VECTORS; j++) column[j] = _mm512_loadu_si512(w + 64 * j);
      NMC_UNROLL for (int r = 0; r < ROWS; r++) {
        const __m512i x = _mm512_set1_epi32(quad_at(rows[r] + at));
        NMC_UNROLL for (int j = 0; j < VECTORS; j++) multiply_add(total[r][j], x, column[j]);
      }
    }
  }
  NMC_UNROLL for (int r = 0; r < ROWS; r++)
    NMC_UNROLL for (int j = 0; j < VECTORS; j++)
      put_currents(acc + r * width + 16 * j, (I32)total[r][j], shift, add);
}

// The same for 16 rows at equal distances, such as the steps of one site, and 16 output channels: four pointers and
// two distances fit the registers, where sixteen pointers do not.
constexpr int kEvenRows = 16;

NMC_NOINLINE void tile_even(const uint8_t *first, ptrdiff_t distance, const Segment *segments, int segment_count,
                            const int8_t *weights, int shift, bool add, int32_t *acc, int width) {
  __m512i total[kEvenRows] = {};
  const ptrdiff_t three = 3 * distance;
  for (int i = 0; i < segment_count; i++) {
    const int8_t *w = weights + segments[i].weight * 64;
    const uint8_t *base[4];
    NMC_UNROLL for (int b = 0; b < 4; b++) base[b] = first + segments[i].input + 4 * b * distance;
    for (int q = segments[i].quads; q > 0; q--, w += 64) {
      const __m512i column = _mm512_loadu_si512(w);
      NMC_UNROLL for (int b = 0; b < 4; b++) {
        __m512i x[4];
        // Written out, because GCC turns the sums into sixteen pointers again.
        asm("vpbroadcastd (%4), %0\n\t"
            "vpbroadcastd (%4,%5), %1\n\t"
            "vpbroadcastd (%4,%5,2), %2\n\t"
            "vpbroadcastd (%4,%6), %3"
            : "=&v"(x[0]), "=&v"(x[1]), "=&v"(x[2]), "=v"(x[3])
            : "r"(base[b]), "r"(distance), "r"(three)
            : "memory");
        base[b] += 4;
        NMC_UNROLL for (int r = 0; r < 4; r++) multiply_add(total[4 * b + r], x[r], column);
      }
    }
  }
  NMC_UNROLL for (int r = 0; r < kEvenRows; r++) put_currents(acc + r * width, (I32)total[r], shift, add);
}

NMC_INLINE bool are_even(const uint8_t *const *rows) {
  const ptrdiff_t distance = rows[1] - rows[0];
  bool even = true;
  for (int r = 2; r < kEvenRows; r++) even &= rows[r] - rows[r - 1] == distance;
  return even;
}

constexpr int kDenseMaxPayload = 255;

// As many rows as fill the registers, then fewer; returns how many were done.
template <int VECTORS>
NMC_INLINE int tile_rows(int left, const uint8_t *const *rows, const Segment *segments, int segment_count,
                         const int8_t *weights, const DenseArgs &a, bool add, int32_t *acc, int width) {
  constexpr int kFull = VECTORS == 4 ? 6 : VECTORS == 2 ? 12 : 16;
  if (VECTORS == 1 && left >= kEvenRows && are_even(rows))
    return tile_even(rows[0], rows[1] - rows[0], segments, segment_count, weights, a.shift, add, acc, width), kEvenRows;
  if (left >= kFull) return tile<kFull, VECTORS>(rows, segments, segment_count, weights, a.shift, add, acc, width), kFull;
  if (left >= 8 && VECTORS < 4) return tile<8, VECTORS>(rows, segments, segment_count, weights, a.shift, add, acc, width), 8;
  if (left >= 4) return tile<4, VECTORS>(rows, segments, segment_count, weights, a.shift, add, acc, width), 4;
  if (left >= 2) return tile<2, VECTORS>(rows, segments, segment_count, weights, a.shift, add, acc, width), 2;
  return tile<1, VECTORS>(rows, segments, segment_count, weights, a.shift, add, acc, width), 1;
}

NMC_INLINE int tile_any(int sub_width, int left, const uint8_t *const *rows, const Segment *segments,
                        int segment_count, const int8_t *weights, const DenseArgs &a, bool add, int32_t *acc,
                        int width) {
  if (sub_width == 64) return tile_rows<4>(left, rows, segments, segment_count, weights, a, add, acc, width);
  if (sub_width == 32) return tile_rows<2>(left, rows, segments, segment_count, weights, a, add, acc, width);
  return tile_rows<1>(left, rows, segments, segment_count, weights, a, add, acc, width);
}

#else

// 8 output channels per vector, 16 per VECTORS = 2. Pairs of products are summed in 16 bits: |x w| <= 127 * 128, so
// a pair cannot saturate; after `flush` of them the sums are widened.
template <int ROWS, int VECTORS>
NMC_NOINLINE void tile(const uint8_t *const *rows, const Segment *segments, int segment_count, const int8_t *weights,
                     int shift, bool add, int32_t *acc, int width, int sub_width, int flush) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i part[ROWS][VECTORS] = {}, total[ROWS][VECTORS] = {};
  int left = flush;
  for (int i = 0; i < segment_count; i++) {
    const int8_t *w = weights + segments[i].weight * 4 * sub_width;
    size_t at = segments[i].input;
    for (int q = segments[i].quads; q > 0; q--, at += 4, w += 4 * sub_width) {
      NMC_UNROLL for (int r = 0; r < ROWS; r++) {
        const __m256i x = _mm256_set1_epi32(quad_at(rows[r] + at));
        NMC_UNROLL for (int j = 0; j < VECTORS; j++) {
          const __m256i column = _mm256_loadu_si256((const __m256i *)(w + 32 * j));
          part[r][j] = _mm256_add_epi16(part[r][j], _mm256_maddubs_epi16(x, column));
        }
      }
      if (--left == 0) {
        left = flush;
        NMC_UNROLL for (int r = 0; r < ROWS; r++)
          NMC_UNROLL for (int j = 0; j < VECTORS; j++) {
            total[r][j] = _mm256_add_epi32(total[r][j], _mm256_madd_epi16(part[r][j], ones));
            part[r][j] = _mm256_setzero_si256();
          }
      }
    }
  }
  NMC_UNROLL for (int r = 0; r < ROWS; r++)
    NMC_UNROLL for (int j = 0; j < VECTORS; j++) {
      total[r][j] = _mm256_add_epi32(total[r][j], _mm256_madd_epi16(part[r][j], ones));
      put_currents(acc + r * width + 8 * j, (I32)total[r][j], shift, add);
    }
}

constexpr int kDenseMaxPayload = 127;

template <int VECTORS>
NMC_INLINE int tile_rows(int left, const uint8_t *const *rows, const Segment *segments, int segment_count,
                         const int8_t *weights, const DenseArgs &a, bool add, int32_t *acc, int width, int sub_width) {
  constexpr int kFull = VECTORS == 4 ? 3 : 6;
  const int flush = 32767 / (256 * a.max_payload);
  const int done = left >= kFull ? kFull : 1;
  for (int c = 0; c < sub_width; c += 8 * VECTORS) {
    const int8_t *w = weights + 4 * c;
    if (done == kFull)
      tile<kFull, VECTORS>(rows, segments, segment_count, w, a.shift, add, acc + c, width, sub_width, flush);
    else tile<1, VECTORS>(rows, segments, segment_count, w, a.shift, add, acc + c, width, sub_width, flush);
  }
  return done;
}

NMC_INLINE int tile_any(int sub_width, int left, const uint8_t *const *rows, const Segment *segments,
                        int segment_count, const int8_t *weights, const DenseArgs &a, bool add, int32_t *acc,
                        int width) {
  if (sub_width == 16)
    return tile_rows<2>(left, rows, segments, segment_count, weights, a, add, acc, width, sub_width);
  return tile_rows<4>(left, rows, segments, segment_count, weights, a, add, acc, width, sub_width);
}

#endif

constexpr int kMaxTileRows = 48;  // a multiple of every full tile's rows

void dense(const DenseArgs &a, const Strip &s) {
  const Geometry &g = a.geometry;
  const uint8_t *data = static_cast<const uint8_t *>(a.map.data);
  const int sub_width = s.width < kSubBlock ? s.width : kSubBlock;
  const size_t sub_bytes = dense_bytes(sub_width, a.quads, g.kernel_h * g.kernel_w);
  for (int first = 0, last; first < s.sites; first = last) {
    const int kind = tap_class(g, s.x[first]);
    for (last = first + 1; last < s.sites && tap_class(g, s.x[last]) == kind;) last++;
    const int segment_count = segments_of(a, s.y, s.x[first], a.scratch);
    const int row_count = (last - first) * s.steps;
    int site = first, step = 0;
    for (int row = 0; row < row_count;) {
      const uint8_t *rows[kMaxTileRows];
      const int batch = row_count - row < kMaxTileRows ? row_count - row : kMaxTileRows;
      for (int i = 0; i < batch; site++, step = 0) {
        const ptrdiff_t left = static_cast<ptrdiff_t>(s.x[site]) * g.stride_w - g.pad_w;
        const uint8_t *at = data + s.image[site] * a.map.image_stride + left * g.source_cs + step * a.map.step_stride;
        for (; i < batch && step < s.steps; step++, at += a.map.step_stride) rows[i++] = at;
        if (step < s.steps) break;
      }
      int32_t *acc = s.acc + (static_cast<size_t>(first) * s.steps + row) * s.width;
      for (int sub = 0; sub * sub_width < s.width; sub++) {
        for (int done = 0; done < batch;)
          done += tile_any(sub_width, batch - done, rows + done, a.scratch, segment_count, a.weights + sub * sub_bytes,
                           a, s.add, acc + done * s.width + sub * sub_width, s.width);
      }
      row += batch;
    }
  }
}

#endif  // AVX512 or AVX2

}  // namespace
}  // namespace nmc
