// Runs a plan: population by population, each over all steps of a chunk, all images of the call.
#pragma once
#include <stdint.h>

#include "maps.h"
#include "plan.h"
#include "team.h"

namespace nmc {

// Payloads of an input left the range that its population declares.
struct BadInput {};

struct Request {
  const int64_t *x;
  int64_t x_stride;
  int images, steps, threads;
  const nmc_result *results;
  nmc_counters counters;
};

void run(Plan &plan, const Request &request);
int64_t run_bytes(const Plan &plan, int images, int steps);

}  // namespace nmc
