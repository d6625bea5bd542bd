// Neurons without memory behind one pool of bytes, such as those of a max pool: whether one fires depends on the sum of
// the payloads alone, which is compared as a byte.
#pragma once
#include <stdint.h>

#include <vector>

#include "plan.h"

namespace nmc {

// Per channel of a population that forgets the least sum that fires; empty where one limit does not say it all. Its
// projections are packed.
std::vector<uint8_t> firing_limits(const Plan &plan, const Population &population);

}  // namespace nmc
