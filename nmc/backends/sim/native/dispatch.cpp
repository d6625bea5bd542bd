#include "dispatch.h"

#include <string.h>

namespace nmc {

namespace {

// Cycles per output site, step and channel block. Measured on Zen 4 (benchmarks/simulator/layers.py); other CPUs with
// the same instructions differ by less than the choice is worth.
struct Costs {
  double list;      // event-driven: merging the lists of one site
  double row[4];    // per weight row of 16, 32, 64, 128 channels
  double quad[4];   // dense: per quad of channels
  double lone;      // dense: factor when a tile has fewer than four rows
};

constexpr Costs kAvx512 = {100, {0.75, 1.2, 1.75, 4.6}, {1, 2, 4, 8}, 2};
constexpr Costs kAvx2 = {100, {1.5, 2, 3.2, 6.5}, {3, 4.5, 9, 18}, 2};

// A repeated list of more than this many entries per event loses against one multiplication.
constexpr int64_t kRepeats = 3;

int log_width(int width) { return width == 128 ? 3 : width == 64 ? 2 : width == 32 ? 1 : 0; }

double sum(const std::vector<int32_t> &values) {
  double total = 0;
  for (int32_t value : values) total += value;
  return total;
}

bool events_are_cheaper(const Plan &plan, const Projection &p, const Activity &activity) {
  const Population &target = plan.populations[p.target];
  const Costs &costs = strcmp(plan.kernels->name, "avx512") == 0 ? kAvx512 : kAvx2;
  const int log = log_width(target.blocks.front().width);
  const double taps = sum(p.rows) * sum(p.columns) / static_cast<double>(target.pixels());  // inside the source
  const double density = static_cast<double>(activity.grades) / static_cast<double>(activity.sites);
  const int channels = p.windows.front().channels;
  const double events = costs.list + costs.row[log] * density * taps * channels;
  const double dense = costs.quad[log] * taps * (channels + 3) / 4 * (activity.rows < 4 ? costs.lone : 1);
  return events < dense;
}

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
  return events_are_cheaper(plan, p, activity) ? Path::kEvent : Path::kDense;
}

}  // namespace nmc
