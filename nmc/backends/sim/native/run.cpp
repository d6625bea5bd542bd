#include "run.h"

#include <string.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "layer.h"
#include "phases.h"

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
        whole_(plan.populations.size()), states_(plan.populations.size()) {}

  ~Run() { plan_.arena.give_all(); }

  void all() {
    const int length = chunk_length(request_.steps);
    phases_ = make_phases(plan_, request_.images, length);
    for (start_ = 0; start_ < request_.steps; start_ += length) {
      steps_ = std::min(length, request_.steps - start_);
      for (const Phase &phase : phases_) {
        for (first_image_ = 0; first_image_ < request_.images; first_image_ += phase.group) {
          images_ = std::min(phase.group, request_.images - first_image_);
          range(phase);
        }
        free_wholes(phase);
      }
    }
  }

 private:
  bool first_chunk() const { return start_ == 0; }
  bool last_chunk() const { return start_ + steps_ == request_.steps; }

  // Whether a population's map is kept for all images: read by a later phase, or by later chunks.
  bool is_whole(int index, const Phase &phase) const {
    const Population &p = plan_.populations[index];
    return p.last_use >= phase.last || (p.constant && !(first_chunk() && last_chunk()));
  }

  // Some images through one phase.
  void range(const Phase &phase) {
    for (int i = 0; i < phase.first; i++)
      if (whole_[i].data) maps_[i] = whole_[i].slice(first_image_, images_);
    for (int i = phase.first; i < phase.last; i++) one(i, phase);
    for (int i = 0; i < phase.last; i++) maps_[i].release(plan_.arena);
  }

  void one(int index, const Phase &phase) {
    const auto began = std::chrono::steady_clock::now();
    const Population &p = plan_.populations[index];
    Map &map = maps_[index];
    Recording recording;
    const bool whole = is_whole(index, phase);
    if (!p.constant || first_chunk()) {
      if (whole && !whole_[index].data) whole_[index].allocate(p, request_.images, steps_, plan_.arena);
      if (whole) map = whole_[index].slice(first_image_, images_);
      else map.allocate(p, images_, steps_, plan_.arena);
      std::vector<Tally> tallies(team_.size(), Tally(p, images_));
      if (p.kind == NMC_INPUT) read_input(p, map);
      else compute(index, recording, tallies);
      if (p.kind != NMC_NEURON) tallies = count_map(plan_, map, team_);
      take_counts(plan_, index, map, tallies, p.constant ? request_.steps : 1, request_.counters);
      if (whole) whole_[index].absorb(map, first_image_);
    } else {
      map = whole_[index].slice(first_image_, images_);
    }
    write_results(index, recording);
    if (recording.u) plan_.arena.give(recording.u);
    if (recording.v) plan_.arena.give(recording.v);
    for (int i = 0; i <= index; i++)
      if (plan_.populations[i].last_use <= index) maps_[i].release(plan_.arena);
    request_.counters.nanoseconds[index] += (std::chrono::steady_clock::now() - began) / std::chrono::nanoseconds(1);
  }

  // Frees what no later phase or chunk reads.
  void free_wholes(const Phase &phase) {
    for (int i = 0; i < phase.last; i++) {
      const Population &p = plan_.populations[i];
      if (p.last_use < phase.last && (!p.constant || last_chunk())) whole_[i].release(plan_.arena);
    }
    if (!last_chunk()) return;
    for (int i = phase.first; i < phase.last; i++) {
      if (states_[i].u) plan_.arena.give(states_[i].u);
      if (states_[i].v) plan_.arena.give(states_[i].v);
      states_[i] = {};
    }
  }

  void read_input(const Population &p, Map &map) {
    const int64_t highest = p.wide ? INT32_MAX : std::min(255, p.max_payload), lowest = p.wide ? INT32_MIN : 0;
    const size_t elements = p.channels * p.pixels();
    std::vector<char> good(images_, 1);
    team_.each(images_, [&](int64_t image, int) {
      for (int t = 0; t < map.steps; t++) {
        const int64_t *from =
            request_.x + (first_image_ + image) * request_.x_stride + (p.constant ? 0 : (start_ + t) * elements);
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
    if (p.kind == NMC_NEURON) {
      const size_t all = p.step_elements() * request_.images;
      const bool chunked = !(first_chunk() && last_chunk());
      if (!state.v && (chunked || result.final_v)) state.v = plan_.arena.take_array<int32_t>(all);
      if (!state.u && chunked && p.keep_u.present) state.u = plan_.arena.take_array<int32_t>(all);
      if (result.u || result.v) {
        recording.u = plan_.arena.take_array<int32_t>(p.step_elements() * images_ * steps_);
        recording.v = plan_.arena.take_array<int32_t>(p.step_elements() * images_ * steps_);
      }
    }
    State here = state;
    here.carried = !first_chunk();
    if (here.u) here.u += first_image_ * p.step_elements();
    if (here.v) here.v += first_image_ * p.step_elements();
    run_layer({plan_, index, maps_, images_, steps_, here, recording, team_, request_.counters, tallies});
  }

  void write_results(int index, const Recording &recording) {
    const Population &p = plan_.populations[index];
    const nmc_result &result = request_.results[index];
    const size_t elements = p.channels * p.pixels();
    if (result.spikes || result.u || result.v) {
      team_.each(static_cast<int64_t>(images_) * steps_, [&](int64_t task, int) {
        const size_t image = task / steps_, t = task % steps_;
        const size_t to = ((first_image_ + image) * request_.steps + start_ + t) * elements;
        const size_t record = (image * steps_ + t) * p.step_elements();
        if (result.spikes) unpack_step(p, maps_[index], image, t, result.spikes + to);
        if (result.u) write_state(recording.u, record, result.u + to, p);
        if (result.v) write_state(recording.v, record, result.v + to, p);
      });
    }
    if (result.total) add_totals(p, maps_[index], result.total + first_image_ * elements);
    if (result.final_v && last_chunk())
      for (size_t image = first_image_; image < static_cast<size_t>(first_image_ + images_); image++)
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
    for (int image = 0; image < images_; image++)
      for (int t = 0; t < steps_; t++) {
        unpack_step(p, map, image, t, step.data());
        for (size_t i = 0; i < elements; i++) total[image * elements + i] += step[i];
      }
  }

  Plan &plan_;
  const Request &request_;
  Team team_;
  std::vector<Phase> phases_;
  std::vector<Map> maps_;   // of the images that are running
  std::vector<Map> whole_;  // of all images, where a later phase or chunk reads them
  std::vector<State> states_;
  int start_ = 0, steps_ = 0, first_image_ = 0, images_ = 0;
};

}  // namespace

void run(Plan &plan, const Request &request) { Run(plan, request).all(); }

int64_t run_bytes(const Plan &plan, int images, int steps) {
  const int stored = chunk_length(steps);
  int64_t peak = 0, held = 0, states = 0;
  std::vector<int64_t> whole(plan.populations.size(), 0);
  for (const Phase &phase : make_phases(plan, images, stored)) {
    int64_t live = 0;
    std::vector<int64_t> size(plan.populations.size(), 0);
    for (int i = phase.first; i < phase.last; i++) {
      const Population &p = plan.populations[i];
      const int64_t map = map_bytes(p, stored), sites = map / static_cast<int64_t>(p.payload_bytes());
      // Lists of at most half of the sites (denser maps take the dense path), or of all of them with values.
      const int64_t lists = p.wide ? sites * 8 : sites * 2;
      const int64_t offsets = static_cast<int64_t>(p.height) * (p.width + 1) * (p.constant ? 1 : stored) * 4;
      if (p.last_use >= phase.last || p.constant) held += whole[i] = map * images;
      else size[i] = map * phase.group;
      size[i] += (lists + offsets) * phase.group;
      if (p.kind == NMC_NEURON && (stored < steps || p.is_output))
        states += static_cast<int64_t>(p.step_elements()) * images * 8;
      live += size[i];
      peak = std::max(peak, live + held);
      for (int j = phase.first; j <= i; j++)
        if (plan.populations[j].last_use <= i) live -= size[j], size[j] = 0;
    }
    for (int i = 0; i < phase.last; i++)
      if (plan.populations[i].last_use < phase.last && !plan.populations[i].constant) held -= whole[i], whole[i] = 0;
  }
  return peak + states + plan.packed_bytes();
}

}  // namespace nmc
