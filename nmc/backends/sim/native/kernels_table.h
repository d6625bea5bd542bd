// Fills the kernel table; included last by each kernels_<isa>.cpp.
#pragma once
#include "dense.h"
#include "event.h"
#include "fire.h"
#include "input.h"
#include "lists.h"
#include "window.h"

namespace nmc {
namespace {

template <bool HAS_U, int V_MODE>
void fill_fire(FireFn (&table)[3][2]) {
  table[kHard][0] = fire<HAS_U, V_MODE, kHard, HAS_U>;  // with a u state the fold is never provably idle
  table[kHard][1] = fire<HAS_U, V_MODE, kHard, true>;
  table[kSoft][0] = fire<HAS_U, V_MODE, kSoft, HAS_U>;
  table[kSoft][1] = fire<HAS_U, V_MODE, kSoft, true>;
  table[kOwn][0] = table[kOwn][1] = fire<HAS_U, V_MODE, kOwn, true>;
}

template <bool HAS_U>
void fill_fire(FireFn (&table)[3][3][2]) {
  fill_fire<HAS_U, kForget>(table[kForget]);
  fill_fire<HAS_U, kIntegrate>(table[kIntegrate]);
  fill_fire<HAS_U, kLeak>(table[kLeak]);
}

Kernels make_kernels(const char *name) {
  Kernels k = {};
  k.name = name;
  k.event[0] = event<16>;
  k.event[1] = event<32>;
  k.event[2] = event<64>;
  k.event[3] = event<128>;
  k.valued8[0] = valued<16, int8_t>;
  k.valued8[1] = valued<32, int8_t>;
  k.valued8[2] = valued<64, int8_t>;
  k.valued8[3] = valued<128, int8_t>;
  k.valued32[0] = valued<16, int32_t>;
  k.valued32[1] = valued<32, int32_t>;
  k.valued32[2] = valued<64, int32_t>;
  k.valued32[3] = valued<128, int32_t>;
#if defined(NMC_AVX512) || defined(NMC_AVX2)
  k.dense = dense;
  k.dense_max_payload = kDenseMaxPayload;
#endif
  k.depthwise = depthwise;
  k.pool = pool;
  k.identity = identity;
  k.gate = gate;
  fill_fire<false>(k.fire[0]);
  fill_fire<true>(k.fire[1]);
  k.relay = relay;
  k.add_bytes = add_bytes;
  k.event_bytes = event_bytes;
  k.pack_event = pack_event;
  k.dense_bytes = dense_bytes;
  k.pack_dense = pack_dense;
  k.read_bytes = read_bytes;
  k.count_row = count_row;
  k.count_bytes = count_bytes;
  k.list_row = list_row;
  return k;
}

}  // namespace
}  // namespace nmc
