// Which path a convolution takes for a group of images, from their activity. Changes time, never results.
#pragma once
#include "plan.h"

namespace nmc {

struct Activity {
  int64_t events, grades;  // of the group's images, all stored steps
  int64_t sites;           // payload places in them
  int rows;                // sites times steps that one dense tile can share weights over
};

Path choose_path(const Plan &plan, const Projection &projection, const Activity &activity);

}  // namespace nmc
