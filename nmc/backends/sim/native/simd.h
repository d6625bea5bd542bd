// Vectors of the instruction set that this translation unit is compiled for. Included by the kernel files only.
#pragma once
#include <stdint.h>
#include <string.h>

#if defined(NMC_AVX512) || defined(NMC_AVX2)
#include <immintrin.h>
#endif

#if defined(NMC_AVX512)
#define NMC_VECTOR 64
#elif defined(NMC_AVX2)
#define NMC_VECTOR 32
#else
#define NMC_VECTOR 16
#endif

#define NMC_INLINE static inline __attribute__((always_inline))
#define NMC_NOINLINE static __attribute__((noinline))
#define NMC_UNROLL _Pragma("GCC unroll 16")

namespace nmc {
namespace {

constexpr int kVector = NMC_VECTOR;
constexpr int kInts = kVector / 4;

typedef int32_t I32 __attribute__((vector_size(NMC_VECTOR)));
typedef uint32_t U32 __attribute__((vector_size(NMC_VECTOR)));
typedef int32_t I32Loose __attribute__((vector_size(NMC_VECTOR), aligned(4), may_alias));
typedef uint8_t ByteVector __attribute__((vector_size(NMC_VECTOR)));

NMC_INLINE I32 load(const int32_t *p) { return *reinterpret_cast<const I32Loose *>(p); }
NMC_INLINE void store(int32_t *p, I32 v) { *reinterpret_cast<I32Loose *>(p) = v; }
NMC_INLINE I32 splat(int32_t x) { return x - I32{}; }
#if defined(NMC_AVX512)
NMC_INLINE I32 widen(const uint8_t *p) { return (I32)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
NMC_INLINE I32 widen(const int8_t *p) { return (I32)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)); }
NMC_INLINE I32 widen(const uint16_t *p) { return (I32)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)); }
#elif defined(NMC_AVX2)
NMC_INLINE I32 widen(const uint8_t *p) { return (I32)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
NMC_INLINE I32 widen(const int8_t *p) { return (I32)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
NMC_INLINE I32 widen(const uint16_t *p) { return (I32)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)); }
#else
// Each byte into the top of a 32-bit lane; compilers turn the shuffle into two unpack instructions.
NMC_INLINE I32 top_bytes(const void *p) {
  uint32_t four;
  memcpy(&four, p, sizeof four);
  const ByteVector bytes = (ByteVector)(U32{four, 0, 0, 0}), zero = {};
  return (I32)__builtin_shufflevector(bytes, zero, 16, 16, 16, 0, 16, 16, 16, 1, 16, 16, 16, 2, 16, 16, 16, 3);
}
NMC_INLINE I32 widen(const uint8_t *p) { return (I32)((U32)top_bytes(p) >> 24); }
NMC_INLINE I32 widen(const int8_t *p) { return top_bytes(p) >> 24; }
NMC_INLINE I32 widen(const uint16_t *p) { return I32{p[0], p[1], p[2], p[3]}; }
#endif
NMC_INLINE I32 widen(const int32_t *p) { return load(p); }

#if defined(NMC_AVX512)
typedef __mmask16 Mask;
NMC_INLINE Mask greater(I32 a, I32 b) { return _mm512_cmpgt_epi32_mask((__m512i)a, (__m512i)b); }
NMC_INLINE I32 minimum(I32 a, I32 b) { return (I32)_mm512_min_epi32((__m512i)a, (__m512i)b); }
NMC_INLINE I32 maximum(I32 a, I32 b) { return (I32)_mm512_max_epi32((__m512i)a, (__m512i)b); }
NMC_INLINE I32 subtract_where(I32 a, Mask m, I32 b) {
  return (I32)_mm512_mask_sub_epi32((__m512i)a, m, (__m512i)a, (__m512i)b);
}
NMC_INLINE I32 zero_where(I32 a, Mask m) {
  return (I32)_mm512_mask_mov_epi32((__m512i)a, m, _mm512_setzero_si512());
}
NMC_INLINE I32 count_where(I32 count, Mask m) {
  return (I32)_mm512_mask_add_epi32((__m512i)count, m, (__m512i)count, _mm512_set1_epi32(1));
}
NMC_INLINE void put_spikes(uint8_t *p, Mask m) {
  _mm_storeu_si128((__m128i *)p, _mm_maskz_mov_epi8(m, _mm_set1_epi8(1)));
}
NMC_INLINE void put_bytes(uint8_t *p, I32 v) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)v)); }
#else
typedef I32 Mask;
NMC_INLINE Mask greater(I32 a, I32 b) { return a > b; }
NMC_INLINE I32 minimum(I32 a, I32 b) { return a < b ? a : b; }
NMC_INLINE I32 maximum(I32 a, I32 b) { return a > b ? a : b; }
NMC_INLINE I32 subtract_where(I32 a, Mask m, I32 b) { return a - (b & m); }
NMC_INLINE I32 zero_where(I32 a, Mask m) { return a & ~m; }
NMC_INLINE I32 count_where(I32 count, Mask m) { return count - m; }
#if defined(NMC_AVX2)
NMC_INLINE void put_bytes(uint8_t *p, I32 v) {
  const __m256i low = _mm256_and_si256((__m256i)v, _mm256_set1_epi32(255));
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
  _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(words, words));
}
#else
NMC_INLINE void put_bytes(uint8_t *p, I32 v) {
  for (int i = 0; i < kInts; i++) p[i] = static_cast<uint8_t>(v[i]);
}
#endif
NMC_INLINE void put_spikes(uint8_t *p, Mask m) { put_bytes(p, m & 1); }
#endif

NMC_INLINE int32_t sum_lanes(I32 v) {
#if defined(NMC_AVX512)
  return _mm512_reduce_add_epi32((__m512i)v);
#else
  int32_t sum = 0;
  for (int i = 0; i < kInts; i++) sum += v[i];
  return sum;
#endif
}

}  // namespace
}  // namespace nmc
