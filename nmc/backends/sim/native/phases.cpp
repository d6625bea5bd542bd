#include "phases.h"

#include <algorithm>

namespace nmc {

namespace {

constexpr int64_t kCacheBytes = 1 << 20;
constexpr int kMaxGroup = 16;

int64_t weight_bytes(const Plan &plan, const Projection &p) {
  if (!p.is_convolution()) return 0;
  const int64_t channels = plan.populations[p.source].channels / p.groups;
  return channels * p.taps() * plan.populations[p.target].channels * p.weight_bytes;
}

int wanted_group(const Plan &plan, const Population &population, int steps) {
  int64_t maps = map_bytes(population, steps), weights = 0;
  for (int i : population.incoming) {
    const Projection &p = plan.projections[i];
    maps += map_bytes(plan.populations[p.source], steps);
    weights += weight_bytes(plan, p);
  }
  if (weights == 0) return kMaxGroup;  // whatever suits the next convolution
  const int64_t images = std::max(kCacheBytes, weights) / maps;
  int group = 1;  // powers of two, so that groups nest
  while (group < kMaxGroup && 2 * group <= images) group *= 2;
  return group;
}

}  // namespace

int64_t map_bytes(const Population &p, int steps) {
  return static_cast<int64_t>(p.step_elements() + 64) * static_cast<int64_t>(p.payload_bytes()) *
         (p.constant ? 1 : steps);
}

std::vector<Phase> make_phases(const Plan &plan, int images, int steps) {
  std::vector<Phase> phases;
  int group = kMaxGroup;
  std::vector<int> wanted_groups;  // populations of one span stay in one phase
  for (const Span &span : plan.spans) {
    int least = kMaxGroup;
    for (int i = span.first; i < span.last; i++)
      least = std::min(least, wanted_group(plan, plan.populations[i], steps));
    wanted_groups.insert(wanted_groups.end(), span.last - span.first, least);
  }
  // From the end, because a group must not grow smaller again: its images would wait in large maps.
  for (int i = static_cast<int>(plan.populations.size()) - 1; i >= 0; i--) {
    const int wanted = std::min({group, wanted_groups[i], images});
    if (phases.empty() || wanted < phases.back().group) phases.push_back({i, i + 1, wanted});
    phases.back().first = i;
    group = wanted;
  }
  std::reverse(phases.begin(), phases.end());
  return phases;
}

}  // namespace nmc
