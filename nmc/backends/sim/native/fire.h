// The neuron update of nmc/neuron.py on int32 vectors, fused behind the currents of a strip.
//
// 32 bits hold every intermediate: |a| < 2**24 and |bias| < 2**29 are proven before a plan is built (native_plan.py),
// |u| <= 2**30 follows, and |v| <= 2**24 (clip, then a soft reset).
#pragma once
#include "kernels.h"
#include "simd.h"

namespace nmc {
namespace {

constexpr int32_t kFold = 1 << 23;
constexpr int32_t kLimit = (1 << 23) - 1;
constexpr int kWeightShift = 6;
constexpr int kDecayBits = 12;

// sign(x) * ((|x| * keep) >> 12). The product needs 43 bits; |x| is split so that each part needs 31.
NMC_INLINE I32 decay(I32 x, I32 keep) {
  const I32 sign = x >> 31;
  const U32 magnitude = (U32)((x ^ sign) - sign), factor = (U32)keep;
  const U32 high = (magnitude >> kDecayBits) * factor;
  const U32 low = ((magnitude & ((1u << kDecayBits) - 1)) * factor) >> kDecayBits;
  return ((I32)(high + low) ^ sign) - sign;
}

NMC_INLINE I32 fold(I32 u) {
  u = subtract_where(u, greater(u, splat(kFold)), splat(2 * kFold));
  return subtract_where(u, greater(splat(1 - kFold), u), splat(-2 * kFold));
}

// VECTORS vectors of channels at each of SITES sites: enough independent chains to hide the latency of an update.
template <bool HAS_U, int V_MODE, bool SOFT, bool FOLDS, int SITES, int VECTORS>
NMC_INLINE void fire_vectors(const FireArgs *sites, int channel) {
  I32 u[SITES][VECTORS], v[SITES][VECTORS], fired[SITES] = {};
  NMC_UNROLL for (int i = 0; i < SITES; i++) {
    NMC_UNROLL for (int j = 0; j < VECTORS; j++) {
      const int c = channel + j * kInts;
      u[i][j] = HAS_U && sites[i].u_in ? load(sites[i].u_in + c) : I32{};
      v[i][j] = sites[i].v_in ? load(sites[i].v_in + c) : I32{};
    }
  }
  const int steps = sites[0].steps;
  const bool records = sites[0].record_v != nullptr;
  for (int t = 0; t < steps; t++) {
    NMC_UNROLL for (int i = 0; i < SITES; i++) {
      const FireArgs &f = sites[i];
      NMC_UNROLL for (int j = 0; j < VECTORS; j++) {
        const int c = channel + j * kInts;
        I32 current = load(f.acc + t * f.acc_step + c) << kWeightShift;
        if (HAS_U) current += decay(u[i][j], load(f.keep_u + c));
        if (FOLDS) current = fold(current);
        u[i][j] = current;
        I32 next = current + load(f.bias + c);
        if (V_MODE == kIntegrate) next += v[i][j];
        if (V_MODE == kLeak) next += decay(v[i][j], load(f.keep_v + c));
        next = maximum(minimum(next, splat(kLimit)), splat(-kLimit));
        const Mask spikes = greater(next, load(f.threshold + c));
        v[i][j] = SOFT ? subtract_where(next, spikes, load(f.drop + c)) : zero_where(next, spikes);
        put_spikes(f.out + t * f.out_step + c, spikes);
        fired[i] = count_where(fired[i], spikes);
        if (records) {
          store(f.record_u + t * f.record_step + c, u[i][j]);
          store(f.record_v + t * f.record_step + c, v[i][j]);
        }
      }
    }
  }
  NMC_UNROLL for (int i = 0; i < SITES; i++) {
    *sites[i].spikes += sum_lanes(fired[i]);
    NMC_UNROLL for (int j = 0; j < VECTORS; j++) {
      const int c = channel + j * kInts;
      if (sites[i].u_out) store(sites[i].u_out + c, u[i][j]);
      if (sites[i].v_out) store(sites[i].v_out + c, v[i][j]);
    }
  }
}

template <bool HAS_U, int V_MODE, bool SOFT, bool FOLDS, int SITES>
NMC_INLINE void fire_sites(const FireArgs *sites) {
  constexpr int kOne = kLanes / kInts;  // vectors per 16 channels
  int c = 0;
#if defined(NMC_AVX512)
  if (SITES == 1)
    for (; c + 4 * kLanes <= sites->width; c += 4 * kLanes)
      fire_vectors<HAS_U, V_MODE, SOFT, FOLDS, SITES, 4>(sites, c);
#endif
  for (; c < sites->width; c += kLanes) fire_vectors<HAS_U, V_MODE, SOFT, FOLDS, SITES, kOne>(sites, c);
}

template <bool HAS_U, int V_MODE, bool SOFT, bool FOLDS>
void fire(const FireArgs *sites, int count) {
  int done = 0;
#if defined(NMC_AVX512)
  if (sites->width < 4 * kLanes)
    for (; done + 4 <= count; done += 4) fire_sites<HAS_U, V_MODE, SOFT, FOLDS, 4>(sites + done);
#endif
  for (; done < count; done++) fire_sites<HAS_U, V_MODE, SOFT, FOLDS, 1>(sites + done);
}

void relay(const FireArgs &f, bool wide) {
  for (int t = 0; t < f.steps; t++) {
    const int32_t *acc = f.acc + t * f.acc_step;
    for (int c = 0; c < f.width; c += kInts) {
      if (wide) store(reinterpret_cast<int32_t *>(f.out) + t * f.out_step + c, load(acc + c));
      else put_bytes(f.out + t * f.out_step + c, load(acc + c));
    }
  }
}

}  // namespace
}  // namespace nmc
