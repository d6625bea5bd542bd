// Operators that mix no channels: depthwise convolution, pool, identity. Vectors run over the channels.
#pragma once
#include "kernels.h"
#include "lists.h"
#include "simd.h"

namespace nmc {
namespace {

// Kernel rows or columns that lie inside the source.
struct Inside {
  int from, to, start;  // start: source position of tap 0
};

NMC_INLINE Inside inside(int at, int stride, int pad, int kernel, int dilation, int size) {
  Inside r = {0, kernel, at * stride - pad};
  while (r.from < kernel && r.start + r.from * dilation < 0) r.from++;
  while (r.to > r.from && r.start + (r.to - 1) * dilation >= size) r.to--;
  return r;
}

// f(tap, pointer to the payloads) for every tap inside the source.
template <class T, class F>
NMC_INLINE void taps(const Geometry &g, const T *map, const Inside &rows, const Inside &columns, F f) {
  for (int ky = rows.from; ky < rows.to; ky++) {
    const ptrdiff_t row = static_cast<ptrdiff_t>(rows.start + ky * g.dilation_h) * g.source_w + columns.start;
    for (int kx = columns.from; kx < columns.to; kx++)
      f(ky * g.kernel_w + kx, map + (row + kx * g.dilation_w) * g.source_cs);
  }
}

enum WindowKind { kDepthwise, kPool };

template <class T, WindowKind KIND>
NMC_INLINE void window_sites(const WindowArgs &a, const Strip &s) {
  constexpr int kVectors = kLanes / kInts;
  const T *data = static_cast<const T *>(a.map.data);
  const Geometry &g = a.geometry;
  const Inside rows = inside(s.y, g.stride_h, g.pad_h, g.kernel_h, g.dilation_h, g.source_h);
  for (int site = 0; site < s.sites; site++) {
    const Inside columns = inside(s.x[site], g.stride_w, g.pad_w, g.kernel_w, g.dilation_w, g.source_w);
    for (int t = 0; t < s.steps; t++) {
      int32_t *acc = s.acc + (static_cast<size_t>(site) * s.steps + t) * s.width;
      const T *map = data + s.image[site] * a.map.image_stride + t * a.map.step_stride + a.first_channel;
      for (int c = 0; c < s.width; c += kLanes) {
        I32 total[kVectors] = {};
        taps(g, map + c, rows, columns, [&](int tap, const T *payload) {
          NMC_UNROLL for (int j = 0; j < kVectors; j++) {
            const I32 x = widen(payload + j * kInts);
            total[j] += KIND == kPool ? x : x * load(a.weights + tap * a.tap_stride + c + j * kInts);
          }
        });
        NMC_UNROLL for (int j = 0; j < kVectors; j++) {
          I32 current = total[j];
          if (KIND == kPool) current *= load(a.weights + c + j * kInts);
          current <<= a.shift;
          int32_t *to = acc + c + j * kInts;
          store(to, s.add ? load(to) + current : current);
        }
      }
    }
  }
}

template <int U> struct ByteLanes {
  typedef uint8_t V __attribute__((vector_size(U)));
  typedef uint8_t Loose __attribute__((vector_size(U), aligned(1), may_alias));
};

// f(site, step, first of U channels, their sums) where window sums stay below 256: added up as bytes.
template <int U, class F>
NMC_INLINE void sum_bytes(const WindowArgs &a, const Strip &s, F f) {
  const uint8_t *data = static_cast<const uint8_t *>(a.map.data);
  const Geometry &g = a.geometry;
  const Inside rows = inside(s.y, g.stride_h, g.pad_h, g.kernel_h, g.dilation_h, g.source_h);
  for (int site = 0; site < s.sites; site++) {
    const Inside columns = inside(s.x[site], g.stride_w, g.pad_w, g.kernel_w, g.dilation_w, g.source_w);
    for (int t = 0; t < s.steps; t++) {
      const uint8_t *map = data + s.image[site] * a.map.image_stride + t * a.map.step_stride + a.first_channel;
      for (int c = 0; c < s.width; c += U) {
        typename ByteLanes<U>::V total = {};
        taps(g, map + c, rows, columns, [&](int, const uint8_t *payload) {
          total += *reinterpret_cast<const typename ByteLanes<U>::Loose *>(payload);
        });
        f(site, t, c, total);
      }
    }
  }
}

template <int U>
NMC_INLINE void pool_bytes(const WindowArgs &a, const Strip &s) {
  typedef typename ByteLanes<U>::V V;
  sum_bytes<U>(a, s, [&](int site, int t, int c, V total) {
    int32_t *acc = s.acc + (static_cast<size_t>(site) * s.steps + t) * s.width + c;
    alignas(64) uint8_t sums[U];
    *reinterpret_cast<typename ByteLanes<U>::Loose *>(sums) = total;
    NMC_UNROLL for (int j = 0; j < U; j += kInts) {
      const I32 current = (widen(sums + j) * load(a.weights + c + j)) << a.shift;
      store(acc + j, s.add ? load(acc + j) + current : current);
    }
  });
}

template <int U>
NMC_INLINE void gate_bytes(const GateArgs &a, const Strip &s) {
  typedef typename ByteLanes<U>::V V;
  typedef typename ByteLanes<U>::Loose Loose;
  for (int site = 0; site < s.sites; site++) a.spikes[site] = 0;
  sum_bytes<U>(a.window, s, [&](int site, int t, int c, V total) {
    const V fired = (V)(total >= *reinterpret_cast<const Loose *>(a.limits + c)) & 1;
    const size_t pixel = static_cast<size_t>(s.y) * a.target_w + s.x[site];
    uint8_t *out = a.out + s.image[site] * a.image_stride + t * a.step_stride + pixel * a.target_cs + c;
    *reinterpret_cast<Loose *>(out) = fired;
    a.spikes[site] += static_cast<int32_t>(count_bytes(out, U));
  });
}

template <class T>
NMC_INLINE void identity_sites(const WindowArgs &a, const Strip &s) {
  const T *data = static_cast<const T *>(a.map.data);
  for (int site = 0; site < s.sites; site++) {
    const size_t pixel = static_cast<size_t>(s.y) * a.geometry.source_w + s.x[site];
    for (int t = 0; t < s.steps; t++) {
      int32_t *acc = s.acc + (static_cast<size_t>(site) * s.steps + t) * s.width;
      const T *payload = data + s.image[site] * a.map.image_stride + t * a.map.step_stride +
                         pixel * a.geometry.source_cs + a.first_channel;
      for (int c = 0; c < s.width; c += kInts) {
        const I32 current = (widen(payload + c) * load(a.weights + c)) << a.shift;
        store(acc + c, s.add ? load(acc + c) + current : current);
      }
    }
  }
}

void depthwise(const WindowArgs &a, const Strip &s) {
  if (a.wide) window_sites<int32_t, kDepthwise>(a, s);
  else window_sites<uint8_t, kDepthwise>(a, s);
}

void pool(const WindowArgs &a, const Strip &s) {
  if (a.wide) window_sites<int32_t, kPool>(a, s);
  else if (a.max_payload * a.geometry.kernel_h * a.geometry.kernel_w > kByteSum) window_sites<uint8_t, kPool>(a, s);
  else if (s.width >= kVector) pool_bytes<kVector>(a, s);
  else pool_bytes<kLanes>(a, s);
}

void gate(const GateArgs &a, const Strip &s) {
  if (s.width >= kVector) gate_bytes<kVector>(a, s);
  else gate_bytes<kLanes>(a, s);
}

void add_bytes(uint8_t *out, const uint8_t *first, const uint8_t *second, size_t n) {
  if (!second) {
    memcpy(out, first, n);
    return;
  }
  for (size_t i = 0; i < n; i++) out[i] = static_cast<uint8_t>(first[i] + second[i]);
}

void identity(const WindowArgs &a, const Strip &s) {
  if (a.wide) identity_sites<int32_t>(a, s);
  else identity_sites<uint8_t>(a, s);
}

}  // namespace
}  // namespace nmc
