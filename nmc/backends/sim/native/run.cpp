#include "run.h"

#include <string.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "layer.h"

namespace nmc {

namespace {

constexpr int kChunk = 32;  // steps per chunk: bounds the maps' memory whatever T is

constexpr size_t kPixelsPerTurn = 64;

int chunk_length(int steps) {
  const int chunks = (steps + kChunk - 1) / kChunk;
  return (steps + chunks - 1) / chunks;
}

template <class T>
bool fill(const int64_t *from, T *to, const Population &p, int64_t lowest, int64_t highest) {
  const size_t pixels = p.pixels();
  memset(to, 0, pixels * p.cs * sizeof(T));
  int64_t smallest = 0, largest = 0;
  for (size_t start = 0; start < pixels; start += kPixelsPerTurn)  // few enough to stay in the L1 cache
    for (int c = 0; c < p.channels; c++) {
      const int64_t *channel = from + c * pixels;
      for (size_t at = start; at < std::min(pixels, start + kPixelsPerTurn); at++) {
        smallest = std::min(smallest, channel[at]);
        largest = std::max(largest, channel[at]);
        to[at * p.cs + c] = static_cast<T>(channel[at]);
      }
    }
  return smallest >= lowest && largest <= highest;
}

template <class T>
void unpack(const T *from, int32_t *to, const Population &p) {  // [pixel][cs] to [channel][pixel]
  const size_t pixels = p.pixels();
  for (int c = 0; c < p.channels; c++)
    for (size_t at = 0; at < pixels; at++) to[c * pixels + at] = static_cast<int32_t>(from[at * p.cs + c]);
}

class Run {
 public:
  Run(Plan &plan, const Request &request)
      : plan_(plan), request_(request), team_(request.threads), maps_(plan.populations.size()),
        states_(plan.populations.size()) {}

  ~Run() {
    plan_.arena.give_all();
  }

  void all() {
    const int length = chunk_length(request_.steps);
    for (int start = 0; start < request_.steps; start += length) {
      start_ = start;
      steps_ = std::min(length, request_.steps - start);
      for (size_t i = 0; i < plan_.populations.size(); i++) one(static_cast<int>(i));
    }
  }

 private:
  bool first() const { return start_ == 0; }
  bool last() const { return start_ + steps_ == request_.steps; }

  void one(int index) {
    const auto began = std::chrono::steady_clock::now();
    const Population &p = plan_.populations[index];
    Map &map = maps_[index];
    Recording recording;
    if (!p.constant || first()) {
      map.allocate(p, request_.images, steps_, plan_.arena);
      std::vector<Tally> tallies(team_.size(), Tally(p, request_.images));
      if (p.kind == NMC_INPUT) read_input(p, map);
      else compute(index, recording, tallies);
      if (p.kind != NMC_NEURON) tallies = count_map(plan_, map, team_);
      take_counts(plan_, index, map, tallies, p.constant ? request_.steps : 1, request_.counters);
    }
    write_results(index, recording);
    if (recording.u) plan_.arena.give(recording.u);
    if (recording.v) plan_.arena.give(recording.v);
    release(index);
    request_.counters.nanoseconds[index] += (std::chrono::steady_clock::now() - began) / std::chrono::nanoseconds(1);
  }

  void read_input(const Population &p, Map &map) {
    const int64_t highest = p.wide ? INT32_MAX : std::min(255, p.max_payload), lowest = p.wide ? INT32_MIN : 0;
    const size_t elements = p.channels * p.pixels();
    std::vector<char> good(request_.images, 1);
    team_.each(request_.images, [&](int64_t image, int) {
      for (int t = 0; t < map.steps; t++) {
        const int64_t *from = request_.x + image * request_.x_stride + (p.constant ? 0 : (start_ + t) * elements);
        const size_t to = image * map.image_stride() + t * map.step_stride();
        good[image] &= p.wide ? fill(from, reinterpret_cast<int32_t *>(map.data) + to, p, lowest, highest)
                              : fill(from, map.data + to, p, lowest, highest);
      }
    });
    if (std::count(good.begin(), good.end(), 0)) throw BadInput();
  }

  void compute(int index, Recording &recording, std::vector<Tally> &tallies) {
    const Population &p = plan_.populations[index];
    const nmc_result &result = request_.results[index];
    State &state = states_[index];
    const size_t neurons = p.step_elements() * request_.images;
    if (p.kind == NMC_NEURON) {
      const bool chunked = !(first() && last());
      if (first() && (chunked || result.final_v)) state.v = plan_.arena.take_array<int32_t>(neurons);
      if (first() && chunked && p.keep_u.present) state.u = plan_.arena.take_array<int32_t>(neurons);
      state.carried = !first();
      if (result.u || result.v) {
        recording.u = plan_.arena.take_array<int32_t>(neurons * steps_);
        recording.v = plan_.arena.take_array<int32_t>(neurons * steps_);
      }
    }
    run_layer({plan_, index, maps_, request_.images, steps_, state, recording, team_, request_.counters,
               tallies});
  }

  void write_results(int index, const Recording &recording) {
    const Population &p = plan_.populations[index];
    const nmc_result &result = request_.results[index];
    const size_t elements = p.channels * p.pixels();
    if (result.spikes || result.u || result.v) {
      team_.each(static_cast<int64_t>(request_.images) * steps_, [&](int64_t task, int) {
        const size_t image = task / steps_, t = task % steps_;
        const size_t to = (image * request_.steps + start_ + t) * elements;
        const size_t record = (image * steps_ + t) * p.step_elements();
        if (result.spikes) unpack_step(p, maps_[index], image, t, result.spikes + to);
        if (result.u) write_state(recording.u, record, result.u + to, p);
        if (result.v) write_state(recording.v, record, result.v + to, p);
      });
    }
    if (result.total) add_totals(p, maps_[index], result.total);
    if (result.final_v && last())
      for (int image = 0; image < request_.images; image++)
        write_state(states_[index].v, image * p.step_elements(), result.final_v + image * elements, p);
  }

  static void write_state(const int32_t *from, size_t at, int32_t *to, const Population &p) {
    if (from) unpack(from + at, to, p);
    else memset(to, 0, p.channels * p.pixels() * sizeof *to);  // inputs and relays have no state
  }

  static void unpack_step(const Population &p, const Map &map, size_t image, size_t t, int32_t *to) {
    const size_t at = image * map.image_stride() + (p.constant ? 0 : t) * map.step_stride();
    if (p.wide) unpack(reinterpret_cast<const int32_t *>(map.data) + at, to, p);
    else unpack(map.data + at, to, p);
  }

  void add_totals(const Population &p, const Map &map, int64_t *total) {
    const size_t elements = p.channels * p.pixels();
    std::vector<int32_t> step(elements);
    for (int image = 0; image < request_.images; image++)
      for (int t = 0; t < steps_; t++) {
        unpack_step(p, map, image, t, step.data());
        for (size_t i = 0; i < elements; i++) total[image * elements + i] += step[i];
      }
  }

  // Frees the maps whose last reader has run. Constant maps stay until the last chunk.
  void release(int index) {
    for (size_t i = 0; i <= static_cast<size_t>(index); i++) {
      const Population &p = plan_.populations[i];
      const bool read = p.last_use <= index;
      if (read && (!p.constant || last())) maps_[i].release(plan_.arena);
    }
    if (last()) {
      State &state = states_[index];
      if (state.u) plan_.arena.give(state.u);
      if (state.v) plan_.arena.give(state.v);
      state = {};
    }
  }

  Plan &plan_;
  const Request &request_;
  Team team_;
  std::vector<Map> maps_;
  std::vector<State> states_;
  int start_ = 0, steps_ = 0;
};

}  // namespace

void run(Plan &plan, const Request &request) { Run(plan, request).all(); }

int64_t run_bytes(const Plan &plan, int images, int steps) {
  const int64_t stored = chunk_length(steps);
  int64_t live = 0, peak = 0, states = 0;
  std::vector<int64_t> size(plan.populations.size());
  for (size_t i = 0; i < plan.populations.size(); i++) {
    const Population &p = plan.populations[i];
    const int64_t sites = static_cast<int64_t>(p.step_elements()) * images * (p.constant ? 1 : stored);
    // The map, and lists of at most half of its sites (denser maps take the dense path) or of all of them, valued.
    const int64_t entries = p.wide ? sites * 8 : sites * 4 / 2;
    const int64_t offsets = static_cast<int64_t>(p.height) * (p.width + 1) * images * (p.constant ? 1 : stored) * 4;
    size[i] = sites * static_cast<int64_t>(p.payload_bytes()) + entries + offsets;
    if (stored < steps && p.kind == NMC_NEURON) states += static_cast<int64_t>(p.step_elements()) * images * 8;
    live += size[i];
    peak = std::max(peak, live);
    for (size_t j = 0; j <= i; j++) {
      if (plan.populations[j].last_use <= static_cast<int>(i) && !plan.populations[j].constant) {
        live -= size[j];
        size[j] = 0;
      }
    }
  }
  return peak + states + plan.packed_bytes();
}

}  // namespace nmc
