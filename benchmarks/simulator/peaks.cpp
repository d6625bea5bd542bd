// What one core of this machine can do at most: the operations that bound the simulator's kernels.
// Compiled by peaks.py with -march=native; every function returns how many operations it did.
#include <stdint.h>
#include <string.h>

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include <immintrin.h>

// 24 independent sums: more than the latency of the multiplication needs, no memory.
extern "C" int64_t int8_products(int64_t rounds) {
  __m512i sums[24];
  for (int i = 0; i < 24; i++) sums[i] = _mm512_set1_epi32(i);
  __m512i bytes = _mm512_set1_epi8(3), weights = _mm512_set1_epi8(-5);
  for (int64_t round = 0; round < rounds; round++) {
    asm volatile("" : "+v"(bytes), "+v"(weights));
#pragma GCC unroll 24
    for (int i = 0; i < 24; i++) sums[i] = _mm512_dpbusd_epi32(sums[i], bytes, weights);
  }
#pragma GCC unroll 24
  for (int i = 0; i < 24; i++) asm volatile("" ::"v"(sums[i]));
  return rounds * 24 * 64;
}

// One synaptic operation of the event-driven kernel: an int8 weight of a row in the L1 cache, widened to 16 bits and
// added. Rows of 128 weights, 64 rows (8 KiB).
extern "C" int64_t row_additions(int64_t rounds) {
  alignas(64) static int8_t rows[64][128];
  __m512i sums[4] = {};
  for (int64_t round = 0; round < rounds; round++)
    for (int row = 0; row < 64; row++) {
      const int8_t *from = rows[row];
      asm volatile("" : "+r"(from));
#pragma GCC unroll 4
      for (int i = 0; i < 4; i++)
        sums[i] = _mm512_add_epi16(
            sums[i], _mm512_cvtepi8_epi16(_mm256_load_si256(reinterpret_cast<const __m256i *>(from + 32 * i))));
    }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) asm volatile("" ::"v"(sums[i]));
  return rounds * 64 * 128;
}
// The same with bytes w + 128, as nmc's kernel adds them (native/event.h): sums modulo 256, and averages of eight rows,
// which alone are widened.
extern "C" int64_t averaged_additions(int64_t rounds) {
  alignas(64) static uint8_t rows[64][128];
  __m512i modulo[2] = {}, all[2] = {}, high[2] = {};
  for (int64_t round = 0; round < rounds; round++)
    for (int row = 0; row < 64; row += 8) {
      const uint8_t *from = rows[row];
      asm volatile("" : "+r"(from));
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) {
        __m512i mean[4];
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
          __m512i x = _mm512_load_si512(from + 256 * r + 64 * i), y = _mm512_load_si512(from + 256 * r + 128 + 64 * i);
          asm("" : "+v"(x), "+v"(y));  // else GCC loads every row twice
          modulo[i] = _mm512_add_epi8(modulo[i], _mm512_add_epi8(x, y));
          mean[r] = _mm512_avg_epu8(x, y);
        }
        const __m512i eight = _mm512_avg_epu8(_mm512_avg_epu8(mean[0], mean[1]), _mm512_avg_epu8(mean[2], mean[3]));
        all[i] = _mm512_add_epi16(all[i], eight);
        high[i] = _mm512_add_epi16(high[i], _mm512_srli_epi16(eight, 8));
      }
    }
#pragma GCC unroll 2
  for (int i = 0; i < 2; i++) asm volatile("" ::"v"(modulo[i]), "v"(all[i]), "v"(high[i]));
  return rounds * 64 * 128;
}
#else
extern "C" int64_t int8_products(int64_t) { return 0; }
extern "C" int64_t row_additions(int64_t) { return 0; }
extern "C" int64_t averaged_additions(int64_t) { return 0; }
#endif

// Bytes read and written.
extern "C" int64_t copied_bytes(char *to, const char *from, int64_t bytes, int64_t rounds) {
  for (int64_t round = 0; round < rounds; round++) {
    memcpy(to, from, bytes);
    asm volatile("" ::"r"(to) : "memory");
  }
  return 2 * bytes * rounds;
}
