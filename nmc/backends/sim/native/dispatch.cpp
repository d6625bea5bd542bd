#include "dispatch.h"

#include <string.h>

namespace nmc {

namespace {

// Events per site where both paths take equally long, measured on Zen 4 (benchmarks/layers.py).
double crossover(const Plan &plan, int width, int rows) {
  const bool wide_vectors = strcmp(plan.kernels->name, "avx512") == 0;
  const double many_rows = wide_vectors ? (width >= 64 ? 0.36 : width == 32 ? 0.25 : 0.2) : 0.5;
  // A tile with few rows waits for its weights.
  return rows >= 4 ? many_rows : many_rows * 2;
}

// A repeated list of more than this many entries per event loses against one multiplication.
constexpr int64_t kRepeats = 3;

}  // namespace

Path choose_path(const Plan &plan, const Projection &p, const Activity &activity) {
  switch (p.op) {
    case NMC_POOL: return Path::kPool;
    case NMC_IDENTITY: return Path::kIdentity;
    case NMC_RESHAPE: return Path::kReshape;
    case NMC_CONV: break;
  }
  if (p.depthwise) return Path::kDepthwise;
  const Population &source = plan.populations[p.source];
  if (source.wide || p.weight_bytes == 4) return Path::kValued;
  const bool has_dense = plan.kernels->dense && source.max_payload <= plan.kernels->dense_max_payload;
  if (plan.forced == NMC_PATH_EVENT) return Path::kEvent;
  if (plan.forced == NMC_PATH_DENSE) return has_dense ? Path::kDense : Path::kValued;
  if (plan.forced == NMC_PATH_VALUED) return Path::kValued;
  if (!has_dense) return activity.grades <= kRepeats * activity.events ? Path::kEvent : Path::kValued;
  const int width = plan.populations[p.target].blocks.front().width;
  const double limit = crossover(plan, width, activity.rows) * static_cast<double>(activity.sites);
  return static_cast<double>(activity.grades) < limit ? Path::kEvent : Path::kDense;
}

}  // namespace nmc
