// Event-driven convolution: for every output site and step the indices of the arriving events are merged into one
// list, and their weight rows are summed in registers ("pull"; nothing is scattered).
//
// Weights are stored as bytes w + 128, rows of `width` output channels. A unit of U bytes holds channel i of its lower
// half at byte 2i and channel i of its upper half at byte 2i + 1, so that as 16-bit lanes x = low + 256 high. Then
// sum(x >> 8) = sum(high), and sum(x) - 256 sum(high) = sum(low), both modulo 2**16 and therefore exact for up to
// 257 rows: one load, one shift and two additions for U weights, without widening a single byte. Where bytes can be
// averaged, that is done once for eight rows (sum_units). Rows of half a vector or less are stored in channel order and
// widened as they are loaded, which takes fewer instructions.
#pragma once
#include "kernels.h"
#include "simd.h"

namespace nmc {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the weight rows are laid out for little-endian lanes");

constexpr int kRowsPerFlush = 168;  // 12 * 168 / 8 < 2**8 (sum_split), 168 * 255 < 2**16
constexpr int kRowsPerTurn = 8;     // merged lists are padded to this with the zero row; half of it for narrow rows

template <int U> struct Unit;
template <> struct Unit<16> {
  typedef uint16_t V __attribute__((vector_size(16)));
  typedef uint16_t Loose __attribute__((vector_size(16), aligned(1), may_alias));
};
template <> struct Unit<32> {
  typedef uint16_t V __attribute__((vector_size(32)));
  typedef uint16_t Loose __attribute__((vector_size(32), aligned(1), may_alias));
};
template <> struct Unit<64> {
  typedef uint16_t V __attribute__((vector_size(64)));
  typedef uint16_t Loose __attribute__((vector_size(64), aligned(1), may_alias));
};

constexpr int unit_of(int width) { return width < kVector ? width : kVector; }

NMC_INLINE void move_lanes(uint32_t *to, const uint32_t *from, I32 base) {
  for (int lane = 0; lane < kLanes; lane += kInts)
    store(reinterpret_cast<int32_t *>(to + lane), load(reinterpret_cast<const int32_t *>(from + lane)) + base);
}

// Appends entries moved by `base`; writes up to kListPad entries more.
NMC_INLINE uint32_t *append(uint32_t *list, const uint32_t *entries, uint32_t count, int32_t base) {
  const I32 moved = splat(base);
  move_lanes(list, entries, moved);  // unconditionally: most kernel rows hold less than 32 events
  move_lanes(list + kLanes, entries + kLanes, moved);
  for (uint32_t i = 2 * kLanes; i < count; i += kLanes) move_lanes(list + i, entries + i, moved);
  return list + count;
}

// The source rows under output row y, for one image and step; returns how many there are.
NMC_INLINE int find_rows(const Geometry &g, const Events &e, int y, size_t first_row) {
  int count = 0;
  for (int ky = 0; ky < g.kernel_h; ky++) {
    const int iy = y * g.stride_h - g.pad_h + ky * g.dilation_h;
    if (static_cast<unsigned>(iy) >= static_cast<unsigned>(g.source_h)) continue;
    const size_t row = first_row + iy;
    e.refs[count++] = {e.rows[row], e.offsets + row * (g.source_w + 1), ky * g.kernel_w * e.window * kEntryScale};
  }
  return count;
}

// Weight rows of every event that reaches output column x.
NMC_NOINLINE uint32_t merge(const Geometry &g, const Events &e, int x, int row_count, uint32_t turn) {
  uint32_t *end = e.scratch;
  const int left = x * g.stride_w - g.pad_w, pixel = e.window * kEntryScale;
  if (g.dilation_w == 1) {  // the taps of a kernel row lie side by side in the list
    const int from = left > 0 ? left : 0;
    const int to = left + g.kernel_w < g.source_w ? left + g.kernel_w : g.source_w;
    if (from < to)
      for (int i = 0; i < row_count; i++) {
        const RowRef &row = e.refs[i];
        const uint32_t first = row.offsets[from];
        end = append(end, row.entries + first, row.offsets[to] - first, row.base - left * pixel);
      }
  } else {
    for (int i = 0; i < row_count; i++) {
      const RowRef &row = e.refs[i];
      for (int kx = 0; kx < g.kernel_w; kx++) {
        const int ix = left + kx * g.dilation_w;
        if (static_cast<unsigned>(ix) >= static_cast<unsigned>(g.source_w)) continue;
        const uint32_t first = row.offsets[ix];
        end = append(end, row.entries + first, row.offsets[ix + 1] - first, row.base + (kx - ix) * pixel);
      }
    }
  }
  const uint32_t count = static_cast<uint32_t>(end - e.scratch);
  const uint32_t zero_row = static_cast<uint32_t>(g.kernel_h * g.kernel_w * pixel);
  for (int i = 0; i < kRowsPerTurn - 1; i++) end[i] = zero_row;
  return (count + turn - 1) & ~(turn - 1);
}

constexpr bool is_narrow(int width) { return 2 * width <= kVector; }
constexpr int rows_per_turn(int width) { return is_narrow(width) ? kRowsPerTurn / 2 : kRowsPerTurn; }

// Sums of bytes of many rows, as 16-bit lanes: all + 256 of the upper bytes too often, and of the upper bytes alone.
template <class V>
struct Split {
  V all = {}, high = {};
  NMC_INLINE void add(Split &s, V x) {
    s.all += x;
    s.high += x >> 8;
  }
};

#if defined(NMC_AVX512) || defined(NMC_AVX2)

// Lanes of a vector as bytes: sums modulo 256, and averages rounded up.
#if defined(NMC_AVX512)
typedef __m512i Row;
NMC_INLINE Row row_at(const uint8_t *p) { return _mm512_loadu_si512(p); }
NMC_INLINE Row add_modulo(Row a, Row b) { return _mm512_add_epi8(a, b); }
NMC_INLINE Row average(Row a, Row b) { return _mm512_avg_epu8(a, b); }
#else
typedef __m256i Row;
NMC_INLINE Row row_at(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
NMC_INLINE Row add_modulo(Row a, Row b) { return _mm256_add_epi8(a, b); }
NMC_INLINE Row average(Row a, Row b) { return _mm256_avg_epu8(a, b); }
#endif

// Sums of up to kRowsPerFlush rows (biased by 128 each), in channel order. Bytes give the sum modulo 256, one addition
// per row; averages of eight rows, which alone are widened, give the rest: each of three levels rounds up by at most a
// half, so eight averages are 0 to 12 more than the sum.
template <int WIDTH, int UNITS>
NMC_INLINE void sum_units(const uint32_t *list, const uint32_t *end, const uint8_t *weights, uint16_t *sums) {
  typedef typename Unit<kVector>::V V;
  typedef typename Unit<kVector>::Loose Loose;
  Row modulo[UNITS];
  Split<V> averages[UNITS];
  NMC_UNROLL for (int j = 0; j < UNITS; j++) modulo[j] = Row{};
  // Two entries per load: loads are what a row costs.
  const auto pair = [&](int at, Row (&mean)[UNITS]) {
    uint64_t entries;
    memcpy(&entries, list + at, sizeof entries);
    const uint8_t *first = weights + (entries & UINT32_MAX) * (WIDTH / kEntryScale);
    const uint8_t *second = weights + (entries >> 32) * (WIDTH / kEntryScale);
    NMC_UNROLL for (int j = 0; j < UNITS; j++) {
      const Row x = row_at(first + j * kVector), y = row_at(second + j * kVector);
      modulo[j] = add_modulo(modulo[j], add_modulo(x, y));
      mean[j] = average(x, y);
    }
  };
  for (; list < end; list += kRowsPerTurn) {
    Row a[UNITS], b[UNITS];
    pair(0, a);
    pair(2, b);
    NMC_UNROLL for (int j = 0; j < UNITS; j++) a[j] = average(a[j], b[j]);
    Row c[UNITS], d[UNITS];
    pair(4, c);
    pair(6, d);
    NMC_UNROLL for (int j = 0; j < UNITS; j++) Split<V>::add(averages[j], (V)average(a[j], average(c[j], d[j])));
  }
  const V low = V{} + 255;
  NMC_UNROLL for (int j = 0; j < UNITS; j++) {
    const V lower = (averages[j].all - (averages[j].high << 8)) << 3, upper = averages[j].high << 3;
    Loose *to = reinterpret_cast<Loose *>(sums + j * kVector);
    to[0] = lower - ((lower - (V)modulo[j]) & low);
    to[1] = upper - ((upper - ((V)modulo[j] >> 8)) & low);
  }
}

// As many vectors at a time as the registers hold sums of.
template <int WIDTH>
NMC_INLINE void sum_split(const uint32_t *list, const uint32_t *end, const uint8_t *weights, uint16_t *sums) {
  constexpr int kAll = WIDTH / kVector, kUnits = kAll < 2 ? kAll : 2;
  for (int first = 0; first < WIDTH; first += kUnits * kVector)
    sum_units<WIDTH, kUnits>(list, end, weights + first, sums + first);
}

#else

template <int WIDTH>
NMC_INLINE void sum_split(const uint32_t *list, const uint32_t *end, const uint8_t *weights, uint16_t *sums) {
  constexpr int U = unit_of(WIDTH), kUnits = WIDTH / U;
  typedef typename Unit<U>::V V;
  typedef typename Unit<U>::Loose Loose;
  Split<V> total[kUnits];
  for (; list < end; list += kRowsPerTurn) {
    NMC_UNROLL for (int r = 0; r < kRowsPerTurn; r++) {
      const uint8_t *row = weights + static_cast<size_t>(list[r]) * (WIDTH / kEntryScale);
      NMC_UNROLL for (int j = 0; j < kUnits; j++) Split<V>::add(total[j], *reinterpret_cast<const Loose *>(row + j * U));
    }
  }
  NMC_UNROLL for (int j = 0; j < kUnits; j++) {
    *reinterpret_cast<Loose *>(sums + j * U) = total[j].all - (total[j].high << 8);
    *reinterpret_cast<Loose *>(sums + j * U + U / 2) = total[j].high;
  }
}

#endif

#if defined(NMC_AVX512) || defined(NMC_AVX2)
NMC_INLINE __m256i widen_row(const uint8_t *row) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)row));
}
#endif

// The same for rows of 16 channels (AVX2, AVX-512) or 32 (AVX-512).
template <int WIDTH>
NMC_INLINE void sum_narrow(const uint32_t *list, const uint32_t *end, const uint8_t *weights, uint16_t *sums) {
#if defined(NMC_AVX512)
  if (WIDTH == 32) {
    __m512i even = _mm512_setzero_si512(), odd = even;
    for (; list < end; list += rows_per_turn(WIDTH)) {
      NMC_UNROLL for (int r = 0; r < rows_per_turn(WIDTH); r += 2) {
        const uint8_t *row = weights + static_cast<size_t>(list[r]) * 2;
        const uint8_t *next = weights + static_cast<size_t>(list[r + 1]) * 2;
        even = _mm512_add_epi16(even, _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)row)));
        odd = _mm512_add_epi16(odd, _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)next)));
      }
    }
    _mm512_storeu_si512(sums, _mm512_add_epi16(even, odd));
    return;
  }
#endif
#if defined(NMC_AVX512) || defined(NMC_AVX2)
  __m256i even = _mm256_setzero_si256(), odd = even;
  for (; list < end; list += rows_per_turn(WIDTH)) {
    NMC_UNROLL for (int r = 0; r < rows_per_turn(WIDTH); r += 2) {
      even = _mm256_add_epi16(even, widen_row(weights + list[r]));
      odd = _mm256_add_epi16(odd, widen_row(weights + list[r + 1]));
    }
  }
  _mm256_storeu_si256((__m256i *)sums, _mm256_add_epi16(even, odd));
#endif
}

template <int WIDTH>
NMC_NOINLINE void sum_rows(const uint32_t *list, uint32_t count, const uint8_t *weights, int shift, bool add,
                         int32_t *acc) {
  alignas(64) uint16_t sums[WIDTH];
  constexpr int kVectors = WIDTH / kInts;
  I32 total[kVectors] = {};
  const uint32_t *end = list + count;
  do {
    const uint32_t *stop = end - list > kRowsPerFlush ? list + kRowsPerFlush : end;
    if constexpr (is_narrow(WIDTH)) sum_narrow<WIDTH>(list, stop, weights, sums);
    else sum_split<WIDTH>(list, stop, weights, sums);
    NMC_UNROLL for (int j = 0; j < kVectors; j++) total[j] += widen(sums + j * kInts);
    list = stop;
  } while (list < end);
  const I32 bias = splat(128 * static_cast<int32_t>(count));
  NMC_UNROLL for (int j = 0; j < kVectors; j++) {
    const I32 current = (total[j] - bias) << shift;
    store(acc + j * kInts, add ? load(acc + j * kInts) + current : current);
  }
}

constexpr size_t kLine = 64;

// Cache lines per call so that so many calls ask for all of them.
NMC_INLINE size_t lines_per_call(const Ahead &ahead, size_t calls) {
  return ((ahead.bytes + kLine - 1) / kLine + calls - 1) / calls;
}

NMC_INLINE void fetch(Ahead &ahead, size_t lines) {
  for (; lines > 0 && ahead.bytes > 0; lines--) {
    __builtin_prefetch(ahead.from, 0, 2);  // the second-level cache: the first is full of rows in use
    const size_t step = ahead.bytes < kLine ? ahead.bytes : kLine;
    ahead.from += step;
    ahead.bytes -= step;
  }
}

template <int WIDTH>
void event(const EventArgs &a, const Strip &s) {
  const uint8_t *weights = static_cast<const uint8_t *>(a.weights);
  const Geometry &g = a.geometry;
  Ahead ahead = a.ahead;
  const size_t lines = lines_per_call(ahead, static_cast<size_t>(s.sites) * s.steps);
  // Steps outside: neighbouring sites read the same row lists.
  for (int t = 0; t < s.steps; t++) {
    int32_t found = -1;
    int rows = 0;
    for (int site = 0; site < s.sites; site++) {
      if (s.image[site] != found) {
        found = s.image[site];
        rows = find_rows(g, a.events, s.y, (static_cast<size_t>(found) * a.events.steps + t) * g.source_h);
      }
      int32_t *acc = s.acc + (static_cast<size_t>(site) * s.steps + t) * WIDTH;
      fetch(ahead, lines);
      const uint32_t count = merge(g, a.events, s.x[site], rows, rows_per_turn(WIDTH));
      if (count) sum_rows<WIDTH>(a.events.scratch, count, weights, a.shift, s.add, acc);
      else if (!s.add) memset(acc, 0, WIDTH * sizeof *acc);
    }
  }
}

size_t event_bytes(int width, int window, int taps) {
  return (static_cast<size_t>(window) * taps + 1) * static_cast<size_t>(width);
}

void pack_event(const int8_t *dense_weights, int width, int window, int taps, uint8_t *out) {
  const int unit = is_narrow(width) ? 1 : unit_of(width);
  const size_t rows = static_cast<size_t>(window) * taps;
  for (size_t row = 0; row < rows; row++) {
    const size_t tap = row / window, channel = row % window;
    for (int o = 0; o < width; o++) {
      const int in_unit = o % unit, half = unit / 2;
      const int place = unit == 1 ? o : o - in_unit + (in_unit < half ? 2 * in_unit : 2 * (in_unit - half) + 1);
      out[row * width + place] = static_cast<uint8_t>(dense_weights[(o * static_cast<size_t>(window) + channel) * taps + tap] + 128);
    }
  }
  memset(out + rows * width, 128, width);
}

// Valued lists: any payload, weights of any width, 32-bit products. Rows of `width` weights in channel order.
constexpr int kValuedInts = 8 * kInts;  // accumulators that fit the registers

template <int CHANNELS, class W>
NMC_INLINE void valued_sites(const EventArgs &a, const Strip &s, int channel) {
  constexpr int kVectors = CHANNELS / kInts;
  const Geometry &g = a.geometry;
  const Events &e = a.events;
  const W *weights = static_cast<const W *>(a.weights) + channel;
  for (int site = 0; site < s.sites; site++) {
    const int left = s.x[site] * g.stride_w - g.pad_w;
    for (int t = 0; t < s.steps; t++) {
      const size_t first_row = (static_cast<size_t>(s.image[site]) * e.steps + t) * g.source_h;
      I32 total[kVectors] = {};
      for (int ky = 0; ky < g.kernel_h; ky++) {
        const int iy = s.y * g.stride_h - g.pad_h + ky * g.dilation_h;
        if (static_cast<unsigned>(iy) >= static_cast<unsigned>(g.source_h)) continue;
        const uint32_t *offsets = e.offsets + (first_row + iy) * (g.source_w + 1);
        for (int kx = 0; kx < g.kernel_w; kx++) {
          const int ix = left + kx * g.dilation_w;
          if (static_cast<unsigned>(ix) >= static_cast<unsigned>(g.source_w)) continue;
          const W *tap = weights + (static_cast<ptrdiff_t>(ky * g.kernel_w + kx - ix) * e.window) * s.width;
          const uint32_t *entries = e.rows[first_row + iy];
          const int32_t *values = e.values[first_row + iy];
          for (uint32_t i = offsets[ix]; i < offsets[ix + 1]; i++) {
            const W *row = tap + static_cast<size_t>(entries[i]) * s.width;
            const I32 value = splat(values[i]);
            NMC_UNROLL for (int j = 0; j < kVectors; j++) total[j] += value * widen(row + j * kInts);
          }
        }
      }
      int32_t *acc = s.acc + (static_cast<size_t>(site) * s.steps + t) * s.width + channel;
      NMC_UNROLL for (int j = 0; j < kVectors; j++) {
        const I32 current = total[j] << a.shift;
        store(acc + j * kInts, s.add ? load(acc + j * kInts) + current : current);
      }
    }
  }
}

template <int WIDTH, class W>
void valued(const EventArgs &a, const Strip &s) {
  constexpr int kChannels = WIDTH < kValuedInts ? WIDTH : kValuedInts;
  for (int channel = 0; channel < WIDTH; channel += kChannels) valued_sites<kChannels, W>(a, s, channel);
}

}  // namespace
}  // namespace nmc
