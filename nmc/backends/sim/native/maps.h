// Spike maps of one run, with what is known about them: events per row and, when wanted, event lists.
#pragma once
#include <stdint.h>

#include <memory>
#include <vector>

#include "arena.h"
#include "plan.h"
#include "team.h"

namespace nmc {

// Event lists of one channel window, per image, built when first wanted.
struct Lists {
  Window window;
  bool valued;
  std::vector<char> built;                // [image]
  std::vector<const uint32_t *> rows;     // [row]
  std::vector<const int32_t *> values;    // [row], valued lists
  uint32_t *offsets = nullptr;            // [row][width + 1]
  size_t longest = 0;                     // entries of the longest row
  std::vector<const void *> buffers;

  Events events(int steps) const {
    return {rows.data(), valued ? values.data() : nullptr, offsets, steps, window.channels, nullptr, nullptr};
  }
};

// What is counted of one population, by one worker.
struct Tally {
  Tally(const Population &population, int images);
  OwnLines<int64_t> image_events, image_grades;
  OwnLines<int64_t> synops, graded;  // per outgoing projection
};

struct Map {
  const Population *population = nullptr;
  int images = 0, steps = 0;  // steps that are stored: 1 when every step is the same
  uint8_t *data = nullptr;
  std::vector<int64_t> image_events, image_grades;
  std::vector<uint32_t> row_events, row_grades;  // [(image * steps + step) * height + y]; empty until needed
  std::vector<std::unique_ptr<Lists>> lists;

  // An odd number of cache lines: the steps of one site, which are read together, then lie in different cache sets.
  size_t step_stride() const {
    const size_t lines = (population->step_elements() * population->payload_bytes() + 63) / 64;
    return (lines | 1) * 64 / population->payload_bytes();
  }
  size_t image_stride() const { return step_stride() * steps; }
  size_t row_count() const { return static_cast<size_t>(images) * steps * population->height; }
  size_t row_stride() const { return static_cast<size_t>(population->width) * population->cs; }
  uint8_t *row(size_t r) const {
    const size_t at = r / population->height * step_stride() + r % population->height * row_stride();
    return data + at * population->payload_bytes();
  }
  MapView view() const { return {data, image_stride(), population->constant ? 0 : step_stride()}; }

  bool owns = false;

  // A view of some images, with their counts.
  Map slice(int first, int count) const;
  // Takes the counts of a slice that has been computed.
  void absorb(const Map &slice, int first);
  void allocate(const Population &of, int image_count, int step_count, Arena &arena);
  void release(Arena &arena);
};

// Counts a finished map of an input or a relay, rows included.
std::vector<Tally> count_map(const Plan &plan, Map &map, Team &team);

// Takes the workers' counts into the map and, times `repeats` for a constant map, into the counters.
void take_counts(const Plan &plan, int population, Map &map, const std::vector<Tally> &tallies, int repeats,
                 const nmc_counters &counters);

// Lists that cover the images marked in `wanted`.
Lists &lists_for(const Plan &plan, Map &map, const Window &window, bool valued, const std::vector<char> &wanted,
                 Team &team, Arena &arena);

}  // namespace nmc
