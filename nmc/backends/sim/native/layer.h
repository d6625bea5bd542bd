// One population of one chunk: currents of all its projections, then the neurons, strip by strip.
#pragma once
#include "maps.h"
#include "plan.h"
#include "team.h"

namespace nmc {

// State between chunks and for the outputs, [image][pixel][cs]; NULL where it is not needed.
struct State {
  int32_t *u = nullptr, *v = nullptr;
  int32_t *sent = nullptr;  // 1 where a neuron that feeds itself fired in the last step
  bool carried = false;     // hold values of an earlier chunk
};

// u and v of every step, [image][step][pixel][cs]; NULL unless recorded.
struct Recording {
  int32_t *u = nullptr, *v = nullptr;
};

struct LayerJob {
  Plan &plan;
  int population;
  Map &map;                        // allocated
  const std::vector<Map *> &feeds;  // what arrives, as the population's incoming projections
  int images, steps;
  State state;
  Recording recording;
  Team &team;
  const nmc_counters &counters;
  std::vector<Tally> &tallies;  // per worker; neurons only, relays are counted afterwards
};

void run_layer(const LayerJob &job);

}  // namespace nmc
