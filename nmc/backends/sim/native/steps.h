// Single steps of maps, for populations that run step by step: those that feed each other, and those that read late.
#pragma once
#include <vector>

#include "maps.h"

namespace nmc {

// A map of one step in which nothing is sent.
Map silent_step(const Population &population, int images, Arena &arena);

// A copy of one step of a map, counted.
Map copy_step(const Plan &plan, const Map &from, int step, Team &team, Arena &arena);

// Writes a map of one step into another map of as many images.
void put_step(const Map &one, const Map &to, int step);

// Takes the workers' counts of events into the map, and nowhere else.
void take_events(Map &map, const std::vector<Tally> &tallies);

// The last steps that were sent before a chunk, of every population that is read late; [population], all images.
class Tails {
 public:
  explicit Tails(const Plan &plan) : plan_(plan), now_(plan.populations.size()), next_(plan.populations.size()) {}

  // A copy of what was sent `ago` steps before the chunk.
  Map copy(int population, int ago, int first_image, int images, Team &team, Arena &arena) const;
  // Keeps the end of a chunk's map for the next chunk.
  void keep(int population, const Map &map, int first_image, int all_images, Arena &arena);
  void next_chunk(Arena &arena);

 private:
  const Plan &plan_;
  std::vector<Map> now_, next_;
};

}  // namespace nmc
