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

// Adds the events and grades of the 64 / CS pixels of one vector.
template <int CS>
NMC_INLINE void count_pixels(const uint8_t *bytes, bool binary, int32_t *events, int32_t *grades) {
  const __m512i v = _mm512_loadu_si512(bytes);
  const uint64_t mask = _mm512_test_epi8_mask(v, v);
  for (int i = 0; i < 64 / CS; i++) events[i] += static_cast<int32_t>(_mm_popcnt_u64(mask >> (i * CS) << (64 - CS)));
  if (binary) return;
  alignas(64) int64_t sums[8];
  _mm512_store_si512(sums, _mm512_sad_epu8(v, _mm512_setzero_si512()));
  for (int i = 0; i < 64 / CS; i++)
    for (int j = 0; j < CS / 8; j++) grades[i] += static_cast<int32_t>(sums[i * (CS / 8) + j]);
}

// The same for the 16 pixels of one vector of four channels.
NMC_INLINE void count_quads(const uint8_t *bytes, bool binary, int32_t *events, int32_t *grades) {
  const __m512i v = _mm512_loadu_si512(bytes), ones = _mm512_set1_epi8(1);
  store(events, (I32)_mm512_dpbusd_epi32((__m512i)load(events), _mm512_min_epu8(v, ones), ones));
  if (!binary) store(grades, (I32)_mm512_dpbusd_epi32((__m512i)load(grades), v, ones));
}

NMC_INLINE void count_columns(const uint8_t *row, int columns, int cs, bool binary, int32_t *events, int32_t *grades) {
  int x = 0;
  if (cs == 4)
    for (; x + 16 <= columns; x += 16, row += 64) count_quads(row, binary, events + x, grades + x);
  if (cs == 16)
    for (; x + 4 <= columns; x += 4, row += 64) count_pixels<16>(row, binary, events + x, grades + x);
  if (cs == 32)
    for (; x + 2 <= columns; x += 2, row += 64) count_pixels<32>(row, binary, events + x, grades + x);
  for (; x < columns; x++, row += cs) {
    int count = 0;
    __m512i sum = _mm512_setzero_si512();
    for (int c = 0; c < cs; c += 64) {
      const __m512i v = load_bytes(row + c, cs - c);
      count += static_cast<int>(_mm_popcnt_u64(_mm512_test_epi8_mask(v, v)));
      if (!binary) sum = _mm512_add_epi64(sum, _mm512_sad_epu8(v, _mm512_setzero_si512()));
    }
    events[x] += count;
    if (!binary) grades[x] += static_cast<int>(_mm512_reduce_add_epi64(sum));
  }
}

size_t count_bytes(const uint8_t *bytes, size_t n) {
  size_t count = 0;
  for (size_t i = 0; i < n; i += 64) {
    const __m512i v = load_bytes(bytes + i, n - i < 64 ? static_cast<int>(n - i) : 64);
    count += static_cast<size_t>(_mm_popcnt_u64(_mm512_test_epi8_mask(v, v)));
  }
  return count;
}

// The entries of 16 of the 64 mask bits; writes 16 places.
NMC_INLINE void put_entries(uint32_t *to, uint64_t mask, __m512i base, int part) {
  const __m512i index = _mm512_add_epi32(base, _mm512_set1_epi32(part * kEntryScale));
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask >> part), index));
}

// Writes up to 16 entries more than it returns.
size_t list_row(const uint8_t *row, int columns, int cs, int first, int window, bool binary, uint32_t *out,
                uint32_t *offsets) {
  uint32_t *end = out;
  __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  lanes = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(kEntryScale));
  for (int x = 0; x < columns; x++) {
    offsets[x] = static_cast<uint32_t>(end - out);
    const uint8_t *pixel = row + static_cast<size_t>(x) * cs + first;
    for (int c = 0; c < window; c += 64) {
      const __m512i v = load_bytes(pixel + c, window - c);
      uint64_t left = _mm512_test_epi8_mask(v, v);
      for (int level = 0; left;) {
        const __m512i base = _mm512_add_epi32(lanes, _mm512_set1_epi32((x * window + c) * kEntryScale));
        put_entries(end, left, base, 0);  // the places of the four parts do not wait for each other
        if (window - c > 16) put_entries(end + _mm_popcnt_u64(left & 0xffff), left, base, 16);
        if (window - c > 32) put_entries(end + _mm_popcnt_u64(left & 0xffffffff), left, base, 32);
        if (window - c > 48) put_entries(end + _mm_popcnt_u64(left & 0xffffffffffff), left, base, 48);
        end += _mm_popcnt_u64(left);
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

NMC_INLINE void count_columns(const uint8_t *row, int columns, int cs, bool binary, int32_t *events, int32_t *grades) {
  for (int x = 0; x < columns; x++, row += cs) {
    int count = 0, sum = 0;
    for (int c = 0; c < cs; c++) {
      count += row[c] != 0;
      sum += row[c];
    }
    events[x] += count;
    if (!binary) grades[x] += sum;
  }
}

size_t count_bytes(const uint8_t *bytes, size_t n) {
  size_t count = 0;
  for (size_t i = 0; i < n; i++) count += bytes[i] != 0;
  return count;
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
        for (int g = pixel[i]; g > 0; g--) *end++ = (base + i) * kEntryScale;
    }
    for (; c < window; c++)
      for (int g = pixel[c]; g > 0; g--) *end++ = (base + c) * kEntryScale;
  }
  offsets[columns] = static_cast<uint32_t>(end - out);
  return offsets[columns];
}

#endif

NMC_INLINE int64_t sum_of(const int32_t *counts, int n) {
  int64_t sum = 0;
  for (int i = 0; i < n; i++) sum += counts[i];
  return sum;
}

void count_row(const uint8_t *row, int columns, int cs, bool binary, int32_t *events, int32_t *grades, int64_t *sums) {
  const int64_t events_before = sum_of(events, columns), grades_before = sum_of(grades, columns);
  count_columns(row, columns, cs, binary, events, grades);
  const int64_t added = sum_of(events, columns) - events_before;
  sums[0] += added;
  sums[1] += binary ? added : sum_of(grades, columns) - grades_before;
}

}  // namespace
}  // namespace nmc
