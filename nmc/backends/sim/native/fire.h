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

// Writes the spikes of VECTORS vectors as bytes and counts them, in `lanes` or all together.
template <int VECTORS>
NMC_INLINE void put_all(uint8_t *out, const Mask *spikes, I32 &lanes, int64_t &count) {
#if defined(NMC_AVX512)
  if constexpr (VECTORS == 4) {
    const __mmask32 low = _mm512_kunpackw(spikes[1], spikes[0]), high = _mm512_kunpackw(spikes[3], spikes[2]);
    const __mmask64 all = _mm512_kunpackd(high, low);
    _mm512_storeu_si512(out, _mm512_maskz_set1_epi8(all, 1));
    count += _mm_popcnt_u64(all);
    return;
  }
#endif
  NMC_UNROLL for (int j = 0; j < VECTORS; j++) {
    put_spikes(out + j * kInts, spikes[j]);
    lanes = count_where(lanes, spikes[j]);
  }
}

// VECTORS vectors of channels at each of SITES sites: enough independent chains to hide the latency of an update.
// Everything is copied to local variables first: stores of bytes could alias it, so it would be loaded at every step.
template <bool HAS_U, int V_MODE, int RESET, bool FOLDS, bool RECORDS, int SITES, int VECTORS>
NMC_INLINE void fire_vectors(const FireArgs *sites, int channel) {
  I32 u[SITES][VECTORS], v[SITES][VECTORS], bias[SITES][VECTORS], threshold[SITES][VECTORS], drop[SITES][VECTORS];
  I32 keep_u[SITES][VECTORS], keep_v[SITES][VECTORS];
  I32 fired[SITES] = {};
  int64_t counts[SITES] = {};
  Mask before[SITES][VECTORS], now[SITES][VECTORS];
  const int32_t *acc[SITES];
  uint8_t *out[SITES];
  int32_t *record_u[SITES], *record_v[SITES];
  const int steps = sites[0].steps;
  const size_t acc_step = sites[0].acc_step, out_step = sites[0].out_step, record_step = sites[0].record_step;
  NMC_UNROLL for (int i = 0; i < SITES; i++) {
    const FireArgs &f = sites[i];
    acc[i] = f.acc + channel;
    out[i] = f.out + channel;
    record_u[i] = RECORDS ? f.record_u + channel : nullptr;
    record_v[i] = RECORDS ? f.record_v + channel : nullptr;
    NMC_UNROLL for (int j = 0; j < VECTORS; j++) {
      const int c = channel + j * kInts;
      u[i][j] = HAS_U && f.u_in ? load(f.u_in + c) : I32{};
      v[i][j] = f.v_in ? load(f.v_in + c) : I32{};
      bias[i][j] = load(f.bias + c);
      threshold[i][j] = load(f.threshold + c);
      if (RESET != kHard) drop[i][j] = load(f.drop + c);
      if (RESET == kOwn) before[i][j] = greater(f.sent_in ? load(f.sent_in + c) : I32{}, I32{});
      if (HAS_U) keep_u[i][j] = load(f.keep_u + c);
      if (V_MODE == kLeak) keep_v[i][j] = load(f.keep_v + c);
    }
  }
  for (int t = 0; t < steps; t++) {
    NMC_UNROLL for (int i = 0; i < SITES; i++) {
      NMC_UNROLL for (int j = 0; j < VECTORS; j++) {
        I32 current = load(acc[i] + j * kInts) << kWeightShift;
        if (HAS_U) current += decay(u[i][j], keep_u[i][j]);
        if (RESET == kOwn) current = subtract_where(current, before[i][j], drop[i][j]);
        if (FOLDS) current = fold(current);
        u[i][j] = current;
        I32 next = current + bias[i][j];
        if (V_MODE == kIntegrate) next += v[i][j];
        if (V_MODE == kLeak) next += decay(v[i][j], keep_v[i][j]);
        next = maximum(minimum(next, splat(kLimit)), splat(-kLimit));
        const Mask spikes = greater(next, threshold[i][j]);
        v[i][j] = RESET == kSoft ? subtract_where(next, spikes, drop[i][j]) : zero_where(next, spikes);
        if (RESET == kOwn) before[i][j] = spikes;
        now[i][j] = spikes;
        if (RECORDS) {
          store(record_u[i] + j * kInts, u[i][j]);
          store(record_v[i] + j * kInts, v[i][j]);
        }
      }
      put_all<VECTORS>(out[i], now[i], fired[i], counts[i]);
      acc[i] += acc_step;
      out[i] += out_step;
      if (RECORDS) record_u[i] += record_step, record_v[i] += record_step;
    }
  }
  NMC_UNROLL for (int i = 0; i < SITES; i++) {
    *sites[i].spikes += sum_lanes(fired[i]) + static_cast<int32_t>(counts[i]);
    NMC_UNROLL for (int j = 0; j < VECTORS; j++) {
      const int c = channel + j * kInts;
      if (sites[i].u_out) store(sites[i].u_out + c, u[i][j]);
      if (sites[i].v_out) store(sites[i].v_out + c, v[i][j]);
      if (RESET == kOwn && sites[i].sent_out)
        store(sites[i].sent_out + c, subtract_where(I32{}, before[i][j], splat(-1)));
    }
  }
}

template <bool HAS_U, int V_MODE, int RESET, bool FOLDS, bool RECORDS>
NMC_INLINE void fire_all(const FireArgs *sites, int count) {
  constexpr int kOne = kLanes / kInts;  // vectors per 16 channels
  const int width = sites->width;
  int done = 0;
#if defined(NMC_AVX512)
  if (width < 4 * kLanes && !RECORDS)
    for (; done + 4 <= count; done += 4)
      for (int c = 0; c < width; c += kLanes)
        fire_vectors<HAS_U, V_MODE, RESET, FOLDS, RECORDS, 4, 1>(sites + done, c);
#endif
  for (; done < count; done++) {
    int c = 0;
#if defined(NMC_AVX512)
    if (!RECORDS)
      for (; c + 4 * kLanes <= width; c += 4 * kLanes)
        fire_vectors<HAS_U, V_MODE, RESET, FOLDS, RECORDS, 1, 4>(sites + done, c);
#endif
    for (; c < width; c += kLanes) fire_vectors<HAS_U, V_MODE, RESET, FOLDS, RECORDS, 1, kOne>(sites + done, c);
  }
}

template <bool HAS_U, int V_MODE, int RESET, bool FOLDS>
void fire(const FireArgs *sites, int count) {
  if (sites->record_v) fire_all<HAS_U, V_MODE, RESET, FOLDS, true>(sites, count);
  else fire_all<HAS_U, V_MODE, RESET, FOLDS, false>(sites, count);
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
