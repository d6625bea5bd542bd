// Reading an input: payloads of a byte map from int64 arrays.
#pragma once
#include "kernels.h"
#include "simd.h"

namespace nmc {
namespace {

constexpr size_t kPixelsPerTurn = 64;  // few enough to stay in the L1 cache

// Four channels at a time, as the bytes of a word.
bool read_bytes(const int64_t *from, size_t channel_stride, int channels, size_t pixels, int64_t highest, uint8_t *to,
                int cs) {
  uint64_t largest = 0;  // unsigned: a negative payload is larger than any that is allowed
  for (size_t first = 0; first < pixels; first += kPixelsPerTurn) {
    const size_t count = pixels - first < kPixelsPerTurn ? pixels - first : kPixelsPerTurn;
    for (int quad = 0; quad < cs; quad += 4) {
      alignas(64) uint32_t words[kPixelsPerTurn] = {};
      for (int c = quad; c < quad + 4 && c < channels; c++) {
        const int64_t *channel = from + c * channel_stride + first;
        const int place = 8 * (c - quad);
        for (size_t i = 0; i < count; i++) {
          const uint64_t payload = static_cast<uint64_t>(channel[i]);
          largest = payload > largest ? payload : largest;
          words[i] |= static_cast<uint32_t>(payload) << place;
        }
      }
      uint8_t *pixel = to + first * cs + quad;
      if (cs == 4) memcpy(pixel, words, count * sizeof *words);
      else
        for (size_t i = 0; i < count; i++) memcpy(pixel + i * cs, words + i, sizeof *words);
    }
  }
  return largest <= static_cast<uint64_t>(highest);
}

}  // namespace
}  // namespace nmc
