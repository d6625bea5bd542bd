#include "steps.h"

#include <string.h>

#include <utility>

namespace nmc {

namespace {

uint8_t *step_data(const Map &map, int image, int step) {
  const size_t at = image * map.image_stride() + (map.population->constant ? 0 : step) * map.step_stride();
  return map.data + at * map.population->payload_bytes();
}

size_t step_bytes(const Map &map) { return map.population->step_elements() * map.population->payload_bytes(); }

void copy_data(const Map &from, int from_step, const Map &to, int to_step) {
  for (int image = 0; image < to.images; image++)
    memcpy(step_data(to, image, to_step), step_data(from, image, from_step), step_bytes(to));
}

void clear_step(const Map &map, int step) {
  for (int image = 0; image < map.images; image++) memset(step_data(map, image, step), 0, step_bytes(map));
}

}  // namespace

Map silent_step(const Population &population, int images, Arena &arena) {
  Map map;
  map.allocate(population, images, 1, arena);
  clear_step(map, 0);
  map.row_events.assign(map.row_count(), 0);
  map.row_grades.assign(map.row_count(), 0);
  return map;
}

Map copy_step(const Plan &plan, const Map &from, int step, Team &team, Arena &arena) {
  Map map;
  map.allocate(*from.population, from.images, 1, arena);
  copy_data(from, step, map, 0);
  take_events(map, count_map(plan, map, team));
  return map;
}

void put_step(const Map &one, const Map &to, int step) { copy_data(one, 0, to, step); }

void take_events(Map &map, const std::vector<Tally> &tallies) {
  for (const Tally &tally : tallies)
    for (int image = 0; image < map.images; image++) {
      map.image_events[image] += tally.image_events[image];
      map.image_grades[image] += tally.image_grades[image];
    }
}

Map Tails::copy(int population, int ago, int first_image, int images, Team &team, Arena &arena) const {
  const Map kept = now_[population].slice(first_image, images);
  return copy_step(plan_, kept, plan_.populations[population].late - ago, team, arena);
}

void Tails::keep(int population, const Map &map, int first_image, int all_images, Arena &arena) {
  const Population &p = plan_.populations[population];
  if (p.late == 0 || p.constant) return;
  Map &next = next_[population];
  if (!next.data) next.allocate(p, all_images, p.late, arena);
  const Map here = next.slice(first_image, map.images);
  for (int step = 0; step < p.late; step++) {
    const int from = map.steps - p.late + step;
    if (from >= 0) copy_data(map, from, here, step);
    else if (now_[population].data) copy_data(now_[population].slice(first_image, map.images), p.late + from, here, step);
    else clear_step(here, step);
  }
}

void Tails::next_chunk(Arena &arena) {
  for (Map &map : now_) map.release(arena);
  std::swap(now_, next_);
}

}  // namespace nmc
