#include "update.h"

#include <algorithm>

namespace nmc {

void Update::strip(int64_t b, const Strip &strip, bool varying, const int32_t *host_bias, FireSites &sites,
                   Tally &tally) const {
  const bool relay = population_.kind == NMC_RELAY;
  const int channel = population_.blocks[b].first;
  if (sites.block != b)
    for (int i = 0; i < FireSites::kCount; i++) {
      set_shared(sites.args[i], channel, strip, varying);
      sites.args[i].spikes = sites.spikes + i;
    }
  sites.block = b;
  for (int first = 0; first < strip.sites; first += FireSites::kCount) {
    const int count = std::min(FireSites::kCount, strip.sites - first);
    for (int i = 0; i < count; i++) {
      FireArgs &f = sites.args[i];
      place(f, channel, strip, first + i);
      if (host_bias) f.bias = host_bias + static_cast<size_t>(first + i) * strip.width;
      sites.spikes[i] = 0;
    }
    if (relay) {
      for (int i = 0; i < count; i++) job_.plan.kernels->relay(sites.args[i], population_.wide);
      continue;
    }
    population_.fire(sites.args, count);
    count_spikes(strip, first, count, sites.spikes, tally);
  }
}

void Update::count_spikes(const Strip &strip, int first, int count, const int32_t *spikes, Tally &tally) const {
  for (int i = 0; i < count; i++) {
    tally.image_events[strip.image[first + i]] += spikes[i];
    tally.image_grades[strip.image[first + i]] += spikes[i];
  }
  for (size_t o = 0; o < population_.outgoing.size(); o++) {
    const Projection &p = job_.plan.projections[population_.outgoing[o]];
    int64_t reached = 0;
    for (int i = 0; i < count; i++) reached += static_cast<int64_t>(spikes[i]) * p.columns[strip.x[first + i]];
    tally.synops[o] += reached * p.rows[strip.y];
    tally.graded[o] += reached * p.rows[strip.y];
  }
}

// What all sites of a block share.
void Update::set_shared(FireArgs &f, int channel, const Strip &strip, bool varying) const {
  const Population &p = population_;
  f = {};
  f.steps = p.constant ? 1 : job_.steps;
  f.width = strip.width;
  f.acc_step = varying ? strip.width : 0;
  f.out_step = job_.map.step_stride();
  f.record_step = p.step_elements();
  if (p.kind == NMC_RELAY) return;
  set_parameters(f, 0, channel);
}

void Update::set_parameters(FireArgs &f, size_t pixel, int channel) const {
  const Population &p = population_;
  f.bias = p.bias.at(pixel, channel);
  f.threshold = p.threshold.at(pixel, channel);
  f.drop = p.drop.at(pixel, channel);
  f.keep_u = p.keep_u.at(pixel, channel);
  f.keep_v = p.keep_v.at(pixel, channel);
  if (p.v0.present) f.v_in = p.v0.at(pixel, channel);
}

// In place: a copied struct would be read back before its fields have left the store buffer.
void Update::place(FireArgs &f, int channel, const Strip &strip, int site) const {
  const Population &p = population_;
  const size_t at = pixel(strip, site), image = strip.image[site], element = at * p.cs + channel;
  f.acc = strip.acc + static_cast<size_t>(site) * strip.steps * strip.width;
  f.out = job_.map.data + (image * job_.map.image_stride() + element) * p.payload_bytes();
  if (p.per_pixel) set_parameters(f, at, channel);
  const State &kept = job_.state;
  if (kept.u || kept.v || kept.sent) {
    const size_t state = image * p.step_elements() + element;
    if (kept.u) f.u_out = kept.u + state, f.u_in = kept.carried ? f.u_out : nullptr;
    if (kept.v) f.v_out = kept.v + state;
    if (kept.v && kept.carried) f.v_in = f.v_out;
    if (kept.sent) f.sent_out = kept.sent + state, f.sent_in = kept.carried ? f.sent_out : nullptr;
  }
  if (job_.recording.v) {
    const size_t record = image * job_.steps * p.step_elements() + element;
    f.record_u = job_.recording.u + record;
    f.record_v = job_.recording.v + record;
  }
}

}  // namespace nmc
