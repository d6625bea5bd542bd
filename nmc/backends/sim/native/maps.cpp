#include "maps.h"

#include <stdlib.h>

#include <algorithm>

namespace nmc {

void Map::allocate(const Population &of, int image_count, int step_count, Arena &arena) {
  population = &of;
  owns = true;
  images = image_count;
  steps = of.constant ? 1 : step_count;
  data = static_cast<uint8_t *>(arena.take(image_stride() * images * of.payload_bytes()));
  row_events.clear();
  row_grades.clear();
  image_grades.assign(images, 0);
  image_events.assign(images, 0);
}

void Map::release(Arena &arena) {
  if (owns && data) arena.give(data);
  data = nullptr;
  for (const std::unique_ptr<Lists> &list : lists)
    for (const void *buffer : list->buffers) arena.give(buffer);
  lists.clear();
}

Map Map::slice(int first, int count) const {
  Map part;
  part.population = population;
  part.images = count;
  part.steps = steps;
  part.data = data + first * image_stride() * population->payload_bytes();
  part.image_events.assign(image_events.begin() + first, image_events.begin() + first + count);
  part.image_grades.assign(image_grades.begin() + first, image_grades.begin() + first + count);
  if (!row_events.empty()) {
    const size_t rows = static_cast<size_t>(steps) * population->height, from = first * rows, to = from + count * rows;
    part.row_events.assign(row_events.begin() + from, row_events.begin() + to);
    part.row_grades.assign(row_grades.begin() + from, row_grades.begin() + to);
  }
  return part;
}

void Map::absorb(const Map &part, int first) {
  std::copy(part.image_events.begin(), part.image_events.end(), image_events.begin() + first);
  std::copy(part.image_grades.begin(), part.image_grades.end(), image_grades.begin() + first);
  if (part.row_events.empty()) return;
  row_events.resize(row_count());
  row_grades.resize(row_count());
  const size_t at = static_cast<size_t>(first) * steps * population->height;
  std::copy(part.row_events.begin(), part.row_events.end(), row_events.begin() + at);
  std::copy(part.row_grades.begin(), part.row_grades.end(), row_grades.begin() + at);
}

namespace {

void count_wide_row(const int32_t *row, const Population &p, int64_t *events, int64_t *grades, int64_t *sums) {
  for (int x = 0; x < p.width; x++, row += p.cs) {
    int64_t count = 0, sum = 0;
    for (int c = 0; c < p.channels; c++) {
      count += row[c] != 0;
      sum += std::abs(static_cast<int64_t>(row[c]));
    }
    events[x] += count;
    grades[x] += sum;
    sums[0] += count;
    sums[1] += sum;
  }
}

// A column's 32-bit counts hold a whole chunk of steps (run.cpp) of bytes from so many channels.
constexpr int kColumnChannels = 1 << 17;

template <class A>
int64_t weighted(const OwnLines<A> &counts, const std::vector<int32_t> &weights) {
  int64_t sum = 0;
  for (size_t i = 0; i < counts.size(); i++) sum += static_cast<int64_t>(counts[i]) * weights[i];
  return sum;
}

// One row of one image over all steps. C: int32 for bytes, int64 for wide payloads.
template <class C>
void tally_row(const Plan &plan, Map &map, int image, int y, OwnLines<C> &events, OwnLines<C> &grades, Tally &tally) {
  const Population &p = *map.population;
  const bool binary = p.max_payload <= 1 && !p.wide;
  const auto take = [&] {
    for (size_t i = 0; i < p.outgoing.size(); i++) {
      const Projection &projection = plan.projections[p.outgoing[i]];
      tally.synops[i] += weighted(events, projection.columns) * projection.rows[y];
      tally.graded[i] += weighted(binary ? events : grades, projection.columns) * projection.rows[y];
    }
    std::fill(events.begin(), events.end(), C{0});
    std::fill(grades.begin(), grades.end(), C{0});
  };
  for (int t = 0; t < map.steps; t++) {
    const size_t r = (static_cast<size_t>(image) * map.steps + t) * p.height + y;
    int64_t sums[2] = {0, 0};
    if constexpr (sizeof(C) == 8)
      count_wide_row(reinterpret_cast<const int32_t *>(map.row(r)), p, events.data(), grades.data(), sums);
    else plan.kernels->count_row(map.row(r), p.width, p.cs, binary, events.data(), grades.data(), sums);
    map.row_events[r] = static_cast<uint32_t>(sums[0]);
    map.row_grades[r] = static_cast<uint32_t>(std::min<int64_t>(sums[1], UINT32_MAX));
    tally.image_events[image] += sums[0];
    tally.image_grades[image] += sums[1];
    if (p.channels > kColumnChannels) take();
  }
  take();
}

// f(row) for the rows of image steps 0..count-1, several short rows to a task. An image step is image * steps + step.
template <class F>
void each_row(const Map &map, int64_t count, Team &team, F f) {
  const int64_t per_task = std::max<int64_t>(1, 8192 / (static_cast<int64_t>(map.row_stride()) + 1));
  team.each_row((count + per_task - 1) / per_task, map.population->height, 1, [&](int64_t task, int y, int64_t, int) {
    for (int64_t step = task * per_task; step < std::min(count, (task + 1) * per_task); step++) f(step, y);
  });
}

}  // namespace

Tally::Tally(const Population &population, int images)
    : image_events(images, 0), image_grades(images, 0), synops(population.outgoing.size(), 0),
      graded(population.outgoing.size(), 0) {}

std::vector<Tally> count_map(const Plan &plan, Map &map, Team &team) {
  const Population &p = *map.population;
  std::vector<Tally> tallies(team.size(), Tally(p, map.images));
  const size_t width = p.width, workers = team.size();
  std::vector<OwnLines<int32_t>> narrow(2 * workers, OwnLines<int32_t>(p.wide ? 0 : width));
  std::vector<OwnLines<int64_t>> wide(2 * workers, OwnLines<int64_t>(p.wide ? width : 0));
  map.row_events.assign(map.row_count(), 0);
  map.row_grades.assign(map.row_count(), 0);
  team.each_row(map.images, p.height, 1, [&](int64_t image, int y, int64_t, int worker) {
    const int i = static_cast<int>(image), w = 2 * worker;
    if (p.wide) tally_row(plan, map, i, y, wide[w], wide[w + 1], tallies[worker]);
    else tally_row(plan, map, i, y, narrow[w], narrow[w + 1], tallies[worker]);
  });
  return tallies;
}

void take_counts(const Plan &plan, int index, Map &map, const std::vector<Tally> &tallies, int repeats,
                 const nmc_counters &counters) {
  const Population &p = *map.population;
  for (const Tally &tally : tallies) {
    for (int image = 0; image < map.images; image++) {
      map.image_events[image] += tally.image_events[image];
      map.image_grades[image] += tally.image_grades[image];
      counters.spikes[index] += tally.image_events[image] * repeats;
      counters.grades[index] += tally.image_grades[image] * repeats;
    }
    for (size_t i = 0; i < p.outgoing.size(); i++) {
      const int64_t times = plan.projections[p.outgoing[i]].fan_channels * repeats;
      counters.synops[p.outgoing[i]] += tally.synops[i] * times;
      counters.graded_synops[p.outgoing[i]] += tally.graded[i] * times;
    }
  }
}

namespace {

template <class T>
size_t value_row(const T *row, const Population &p, const Window &window, uint32_t *entries, int32_t *values,
                 uint32_t *offsets) {
  size_t count = 0;
  for (int x = 0; x < p.width; x++) {
    offsets[x] = static_cast<uint32_t>(count);
    const T *pixel = row + static_cast<size_t>(x) * p.cs + window.first;
    for (int c = 0; c < window.channels; c++) {
      if (pixel[c] == 0) continue;
      entries[count] = static_cast<uint32_t>(x) * window.channels + c;
      values[count++] = pixel[c];
    }
  }
  offsets[p.width] = static_cast<uint32_t>(count);
  return count;
}

// Events per row of a map of binary spikes, whose neurons only counted them per image.
void count_rows(const Plan &plan, Map &map, Team &team) {
  if (!map.row_events.empty()) return;
  map.row_events.resize(map.row_count());
  each_row(map, static_cast<int64_t>(map.images) * map.steps, team, [&](int64_t step, int y) {
    const size_t r = step * map.population->height + y;
    map.row_events[r] = static_cast<uint32_t>(plan.kernels->count_bytes(map.row(r), map.row_stride()));
  });
  map.row_grades = map.row_events;
}

// An upper bound of a row's entries; exact when the window is the whole source.
size_t row_bound(const Map &map, size_t r, const Lists &lists) {
  return lists.valued ? map.row_events[r] : map.row_grades[r];
}

}  // namespace

Lists &lists_for(const Plan &plan, Map &map, const Window &window, bool valued, const std::vector<char> &wanted,
                 Team &team, Arena &arena) {
  const Population &p = *map.population;
  Lists *lists = nullptr;
  for (const std::unique_ptr<Lists> &have : map.lists)
    if (have->window == window && have->valued == valued) lists = have.get();
  if (!lists) {
    map.lists.push_back(std::make_unique<Lists>());
    lists = map.lists.back().get();
    lists->window = window;
    lists->valued = valued;
    lists->built.assign(map.images, 0);
    lists->rows.assign(map.row_count(), nullptr);
    if (valued) lists->values.assign(map.row_count(), nullptr);
    lists->offsets = arena.take_array<uint32_t>(map.row_count() * (p.width + 1));
    lists->buffers.push_back(lists->offsets);
  }
  count_rows(plan, map, team);
  std::vector<size_t> todo;  // image steps
  size_t total = 0;
  for (size_t step = 0; step < static_cast<size_t>(map.images) * map.steps; step++) {
    const size_t image = step / map.steps;
    if (!wanted[image] || lists->built[image]) continue;
    todo.push_back(step);
    for (size_t r = step * p.height; r < (step + 1) * p.height; r++) {
      total += row_bound(map, r, *lists);
      lists->longest = std::max(lists->longest, row_bound(map, r, *lists));
    }
  }
  if (todo.empty()) return *lists;
  // list_row may write 15 entries past a row's end: the next row's place, which is written afterwards only if the same
  // thread writes both in order; so every row gets its own margin.
  constexpr size_t kMargin = 16;
  const size_t room = total + todo.size() * p.height * kMargin;
  uint32_t *entries = arena.take_array<uint32_t>(room);
  lists->buffers.push_back(entries);
  int32_t *values = nullptr;
  if (valued) {
    values = arena.take_array<int32_t>(room);
    lists->buffers.push_back(values);
  }
  size_t at = 0;
  for (size_t step : todo)
    for (size_t r = step * p.height; r < (step + 1) * p.height; r++) {
      lists->rows[r] = entries + at;
      if (valued) lists->values[r] = values + at;
      at += row_bound(map, r, *lists) + kMargin;
    }
  each_row(map, static_cast<int64_t>(todo.size()), team, [&](int64_t i, int y) {
    const size_t r = todo[i] * p.height + y;
    uint32_t *offsets = lists->offsets + r * (p.width + 1);
    uint32_t *row_entries = const_cast<uint32_t *>(lists->rows[r]);
    if (!valued) {
      plan.kernels->list_row(map.row(r), p.width, p.cs, window.first, window.channels, p.max_payload <= 1, row_entries,
                             offsets);
      return;
    }
    int32_t *row_values = const_cast<int32_t *>(lists->values[r]);
    if (p.wide) value_row(reinterpret_cast<const int32_t *>(map.row(r)), p, window, row_entries, row_values, offsets);
    else value_row(map.row(r), p, window, row_entries, row_values, offsets);
  });
  for (size_t image = 0; image < wanted.size(); image++) lists->built[image] |= wanted[image];
  return *lists;
}

}  // namespace nmc
