// How many images run together through each part of a network: large maps one image at a time, so that they stay in
// the L2 cache; small maps behind large weights many at a time, so that weights are read once for all of them.
#pragma once
#include <stdint.h>

#include <vector>

#include "plan.h"

namespace nmc {

struct Phase {
  int first, last;  // populations first..last-1
  int group;        // images
};

// Phases in order, with growing groups. steps: of one chunk.
std::vector<Phase> make_phases(const Plan &plan, int images, int steps);

// Bytes of one image's map.
int64_t map_bytes(const Population &population, int steps);

}  // namespace nmc
