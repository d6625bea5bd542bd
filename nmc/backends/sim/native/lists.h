// Counting and listing the non-zero payloads of one row of a byte map.
#pragma once
#include "kernels.h"
#include "simd.h"

namespace nmc {
namespace {

#if defined(NMC_AVX512)

NMC_INLINE __m512i load_bytes(const uint8_t *p, int count) {
  return count >= 64 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8((1ull << count) - 1, p);
}

// Events of the 64 / CS pixels of one vector.
template <int CS>
NMC_INLINE void count_pixels(__m512i v, int32_t *events) {
  const uint64_t mask = _mm512_test_epi8_mask(v, v);
  for (int i = 0; i < 64 / CS; i++) events[i] = static_cast<int32_t>(_mm_popcnt_u64(mask >> (i * CS) << (64 - CS)));
}

void count_row(const uint8_t *row, int columns, int cs, bool binary, int32_t *events, int32_t *grades) {
  int x = 0;
  if (binary && cs == 16)
    for (; x + 4 <= columns; x += 4, row += 64) count_pixels<16>(_mm512_loadu_si512(row), events + x);
  if (binary && cs == 32)
    for (; x + 2 <= columns; x += 2, row += 64) count_pixels<32>(_mm512_loadu_si512(row), events + x);
  for (; x < columns; x++, row += cs) {
    int count = 0;
    __m512i sum = _mm512_setzero_si512();
    for (int c = 0; c < cs; c += 64) {
      const __m512i v = load_bytes(row + c, cs - c);
      count += static_cast<int>(_mm_popcnt_u64(_mm512_test_epi8_mask(v, v)));
      if (!binary) sum = _mm512_add_epi64(sum, _mm512_sad_epu8(v, _mm512_setzero_si512()));
    }
    events[x] = count;
    if (!binary) grades[x] = static_cast<int>(_mm512_reduce_add_epi64(sum));
  }
}

// Writes up to 15 entries more than it returns.
size_t list_row(const uint8_t *row, int columns, int cs, int first, int window, bool binary, uint32_t *out,
                uint32_t *offsets) {
  uint32_t *end = out;
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  for (int x = 0; x < columns; x++) {
    offsets[x] = static_cast<uint32_t>(end - out);
    const uint8_t *pixel = row + static_cast<size_t>(x) * cs + first;
    for (int c = 0; c < window; c += 64) {
      const __m512i v = load_bytes(pixel + c, window - c);
      uint64_t left = _mm512_test_epi8_mask(v, v);
      for (int level = 0; left;) {
        for (int part = 0; part < 64 && part < window - c; part += 16) {
          const __mmask16 mask = static_cast<__mmask16>(left >> part);
          const __m512i index = _mm512_add_epi32(lanes, _mm512_set1_epi32(x * window + c + part));
          _mm512_storeu_si512(end, _mm512_maskz_compress_epi32(mask, index));
          end += _mm_popcnt_u32(mask);
        }
        if (binary) break;
        left = _mm512_cmpgt_epu8_mask(v, _mm512_set1_epi8(static_cast<char>(++level)));
      }
    }
  }
  offsets[columns] = static_cast<uint32_t>(end - out);
  return offsets[columns];
}

#else

NMC_INLINE uint64_t load_word(const uint8_t *p) {
  uint64_t word;
  memcpy(&word, p, sizeof word);
  return word;
}

void count_row(const uint8_t *row, int columns, int cs, bool binary, int32_t *events, int32_t *grades) {
  for (int x = 0; x < columns; x++, row += cs) {
    int count = 0, sum = 0;
    for (int c = 0; c < cs; c++) {
      count += row[c] != 0;
      sum += row[c];
    }
    events[x] = count;
    if (!binary) grades[x] = sum;
  }
}

size_t list_row(const uint8_t *row, int columns, int cs, int first, int window, bool, uint32_t *out,
                uint32_t *offsets) {
  uint32_t *end = out;
  for (int x = 0; x < columns; x++) {
    offsets[x] = static_cast<uint32_t>(end - out);
    const uint8_t *pixel = row + static_cast<size_t>(x) * cs + first;
    const uint32_t base = static_cast<uint32_t>(x) * window;
    int c = 0;
    for (; c + 8 <= window; c += 8) {
      if (load_word(pixel + c) == 0) continue;
      for (int i = c; i < c + 8; i++)
        for (int g = pixel[i]; g > 0; g--) *end++ = base + i;
    }
    for (; c < window; c++)
      for (int g = pixel[c]; g > 0; g--) *end++ = base + c;
  }
  offsets[columns] = static_cast<uint32_t>(end - out);
  return offsets[columns];
}

#endif

int64_t dot(const int32_t *counts, const int32_t *weights, int n) {
  int64_t sum = 0;
  for (int i = 0; i < n; i++) sum += counts[i] * weights[i];
  return sum;
}

}  // namespace
}  // namespace nmc
