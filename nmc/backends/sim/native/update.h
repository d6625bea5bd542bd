// The neurons of a strip: where their parameters, states and spikes lie, and what their spikes reach.
#pragma once
#include <stdint.h>

#include "layer.h"

namespace nmc {

// What the update of one site needs, for as many sites as are updated together. Kept by a worker from strip to strip,
// because the sites of a block share most of it.
struct FireSites {
  static constexpr int kCount = 8;
  FireArgs args[kCount];
  int32_t spikes[kCount];
  int64_t block = -1;
};

class Update {
 public:
  explicit Update(const LayerJob &job) : job_(job), population_(job.plan.populations[job.population]) {}

  // From the currents of a strip to its spikes. varying: rows of currents per step, else one for all steps. host_bias:
  // [site][width] in v units, or NULL where the population's own bias holds.
  void strip(int64_t block, const Strip &strip, bool varying, const int32_t *host_bias, FireSites &sites,
             Tally &tally) const;

  // spikes: of sites first..first+count-1, over all steps.
  void count_spikes(const Strip &strip, int first, int count, const int32_t *spikes, Tally &tally) const;

  size_t pixel(const Strip &strip, int site) const {
    return static_cast<size_t>(strip.y) * population_.width + strip.x[site];
  }

 private:
  void set_shared(FireArgs &f, int channel, const Strip &strip, bool varying) const;
  void set_parameters(FireArgs &f, size_t pixel, int channel) const;
  void place(FireArgs &f, int channel, const Strip &strip, int site) const;

  const LayerJob &job_;
  const Population &population_;
};

}  // namespace nmc
