#include "run.h"

#include <string.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <vector>

#include "layer.h"
#include "phases.h"
#include "steps.h"

namespace nmc {

namespace {

constexpr int kChunk = 32;  // steps per chunk: bounds the maps' memory whatever T is

constexpr size_t kPixelsPerTask = 4096;

int chunk_length(int steps) {
  const int chunks = (steps + kChunk - 1) / kChunk;
  return (steps + chunks - 1) / chunks;
}

// Pixels first..last-1 of one step; whether all payloads lie in the range.
bool read_pixels(const Kernels &kernels, const int64_t *from, const Map &map, size_t at, size_t first, size_t last) {
  const Population &p = *map.population;
  const size_t pixels = p.pixels(), to = at + first * p.cs;
  if (!p.wide) {
    const int64_t highest = std::min(255, p.max_payload);
    return kernels.read_bytes(from + first, pixels, p.channels, last - first, highest, map.data + to, p.cs);
  }
  int32_t *payloads = reinterpret_cast<int32_t *>(map.data) + to;
  std::fill(payloads, payloads + (last - first) * p.cs, 0);
  bool fits = true;
  for (int c = 0; c < p.channels; c++)
    for (size_t i = 0; i < last - first; i++) {
      const int64_t payload = from[c * pixels + first + i];
      fits &= payload >= INT32_MIN && payload <= INT32_MAX;
      payloads[i * p.cs + c] = static_cast<int32_t>(payload);
    }
  return fits;
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
        whole_(plan.populations.size()), states_(plan.populations.size()), tails_(plan) {}

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
      tails_.next_chunk(plan_.arena);
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
    for (const Span &span : plan_.spans) {
      if (span.first < phase.first || span.first >= phase.last) continue;
      if (span.stepwise) together(span, phase);
      else one(span.first, phase);
    }
    for (int i = 0; i < phase.last; i++) maps_[i].release(plan_.arena);
  }

  void one(int index, const Phase &phase) {
    const auto began = std::chrono::steady_clock::now();
    const Population &p = plan_.populations[index];
    Map &map = maps_[index];
    Recording recording;
    const bool whole = is_whole(index, phase);
    if (!p.constant || first_chunk()) {
      make_map(index, whole);
      std::vector<Tally> tallies(team_.size(), Tally(p, images_));
      if (p.kind == NMC_INPUT) read_input(p, map);
      else compute(index, map, feeds_of(index), steps_, false, recording, tallies);
      if (p.kind != NMC_NEURON) tallies = count_map(plan_, map, team_);
      take_counts(plan_, index, map, tallies, p.constant ? request_.steps : 1, request_.counters);
      if (whole) whole_[index].absorb(map, first_image_);
    } else {
      map = whole_[index].slice(first_image_, images_);
    }
    write_spikes(index);
    write_states(index, recording, 0, steps_);
    give(recording);
    done(index);
    request_.counters.nanoseconds[index] += (std::chrono::steady_clock::now() - began) / std::chrono::nanoseconds(1);
  }

  void make_map(int index, bool whole) {
    const Population &p = plan_.populations[index];
    if (whole && !whole_[index].data) whole_[index].allocate(p, request_.images, steps_, plan_.arena);
    if (whole) maps_[index] = whole_[index].slice(first_image_, images_);
    else maps_[index].allocate(p, images_, steps_, plan_.arena);
  }

  std::vector<Map *> feeds_of(int index) {
    std::vector<Map *> feeds;
    for (int i : plan_.populations[index].incoming) feeds.push_back(&maps_[plan_.projections[i].source]);
    return feeds;
  }

  // A population is finished for this chunk: what nobody reads any more goes.
  void done(int index) {
    if (!last_chunk()) tails_.keep(index, maps_[index], first_image_, request_.images, plan_.arena);
    for (int i = 0; i <= index; i++)
      if (plan_.populations[i].last_use <= index) maps_[i].release(plan_.arena);
  }

  void give(const Recording &recording) {
    if (recording.u) plan_.arena.give(recording.u);
    if (recording.v) plan_.arena.give(recording.v);
  }

  // Populations that feed each other, one step of all of them after the other.
  void together(const Span &span, const Phase &phase) {
    const auto began = std::chrono::steady_clock::now();
    for (int i = span.first; i < span.last; i++) {
      if (plan_.populations[i].constant) one(i, phase);
      else make_map(i, is_whole(i, phase));
    }
    for (int t = 0; t < steps_; t++)
      for (int i = span.first; i < span.last; i++)
        if (!plan_.populations[i].constant) step(i, t);
    for (int i = span.first; i < span.last; i++) {
      const Population &p = plan_.populations[i];
      if (p.constant) continue;
      take_events(maps_[i], count_map(plan_, maps_[i], team_));
      if (is_whole(i, phase)) whole_[i].absorb(maps_[i], first_image_);
      write_spikes(i);
    }
    for (int i = span.first; i < span.last; i++) done(i);
    request_.counters.nanoseconds[span.first] +=
        (std::chrono::steady_clock::now() - began) / std::chrono::nanoseconds(1);
  }

  // One step of one population of a span.
  void step(int index, int t) {
    const Population &p = plan_.populations[index];
    std::vector<Map> arriving(p.incoming.size());
    std::vector<Map *> feeds;
    for (size_t i = 0; i < p.incoming.size(); i++) {
      const Projection &projection = plan_.projections[p.incoming[i]];
      Map &source = maps_[projection.source];
      const bool same = source.population && source.population->constant && start_ + t >= projection.lag;
      if (!same) arriving[i] = arriving_step(projection, t);
      feeds.push_back(same ? &source : &arriving[i]);
    }
    Map now;
    now.allocate(p, images_, 1, plan_.arena);
    Recording recording;
    std::vector<Tally> tallies(team_.size(), Tally(p, images_));
    compute(index, now, feeds, 1, true, recording, tallies, start_ + t > 0);
    if (p.kind != NMC_NEURON) tallies = count_map(plan_, now, team_);
    take_counts(plan_, index, now, tallies, 1, request_.counters);
    put_step(now, maps_[index], t);
    write_states(index, recording, t, 1);
    give(recording);
    now.release(plan_.arena);
    for (Map &map : arriving) map.release(plan_.arena);
  }

  // What a projection brings in step t of the chunk.
  Map arriving_step(const Projection &projection, int t) {
    const int step = t - projection.lag;
    if (start_ + step < 0) return silent_step(plan_.populations[projection.source], images_, plan_.arena);
    if (step < 0) return tails_.copy(projection.source, -step, first_image_, images_, team_, plan_.arena);
    return copy_step(plan_, maps_[projection.source], step, team_, plan_.arena);
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
      if (states_[i].sent) plan_.arena.give(states_[i].sent);
      states_[i] = {};
    }
  }

  void read_input(const Population &p, Map &map) {
    const size_t elements = p.channels * p.pixels();
    const int parts = static_cast<int>((p.pixels() + kPixelsPerTask - 1) / kPixelsPerTask);
    std::atomic<bool> good{true};
    team_.each_row(static_cast<int64_t>(images_) * map.steps, parts, 1, [&](int64_t step, int part, int64_t, int) {
      const size_t image = step / map.steps, t = step % map.steps;
      const size_t first = part * kPixelsPerTask, last = std::min(p.pixels(), first + kPixelsPerTask);
      const int64_t *from =
          request_.x + (first_image_ + image) * request_.x_stride + (p.constant ? 0 : (start_ + t) * elements);
      const size_t to = image * map.image_stride() + t * map.step_stride();
      if (!read_pixels(*plan_.kernels, from, map, to, first, last)) good.store(false);
    });
    if (!good.load()) throw BadInput();
  }

  void compute(int index, Map &map, const std::vector<Map *> &feeds, int steps, bool keeps_state, Recording &recording,
               std::vector<Tally> &tallies, bool carried = false) {
    const Population &p = plan_.populations[index];
    const nmc_result &result = request_.results[index];
    State &state = states_[index];
    if (p.kind == NMC_NEURON) {
      const size_t all = p.step_elements() * request_.images;
      const bool chunked = !p.forgets && (keeps_state || !(first_chunk() && last_chunk()));
      if (!state.v && (chunked || result.final_v)) state.v = plan_.arena.take_array<int32_t>(all);
      if (!state.u && chunked && p.keep_u.present) state.u = plan_.arena.take_array<int32_t>(all);
      if (!state.sent && chunked && p.own >= 0) state.sent = plan_.arena.take_array<int32_t>(all);
      if (result.u || result.v) {
        recording.u = plan_.arena.take_array<int32_t>(p.step_elements() * images_ * steps);
        recording.v = plan_.arena.take_array<int32_t>(p.step_elements() * images_ * steps);
      }
    }
    State here = state;
    here.carried = carried || !first_chunk();
    if (here.u) here.u += first_image_ * p.step_elements();
    if (here.v) here.v += first_image_ * p.step_elements();
    if (here.sent) here.sent += first_image_ * p.step_elements();
    run_layer({plan_, index, map, feeds, images_, steps, here, recording, team_, request_.counters, tallies});
  }

  void write_spikes(int index) {
    const Population &p = plan_.populations[index];
    const nmc_result &result = request_.results[index];
    const size_t elements = p.channels * p.pixels();
    if (result.spikes)
      team_.each(static_cast<int64_t>(images_) * steps_, [&](int64_t task, int) {
        const size_t image = task / steps_, t = task % steps_;
        const size_t to = ((first_image_ + image) * request_.steps + start_ + t) * elements;
        unpack_step(p, maps_[index], image, t, result.spikes + to);
      });
    if (result.total) add_totals(p, maps_[index], result.total + first_image_ * elements);
  }

  // u and v of steps first..first+steps-1 of the chunk, and v after the last step of all.
  void write_states(int index, const Recording &recording, int first, int steps) {
    const Population &p = plan_.populations[index];
    const nmc_result &result = request_.results[index];
    const size_t elements = p.channels * p.pixels();
    if (result.u || result.v)
      team_.each(static_cast<int64_t>(images_) * steps, [&](int64_t task, int) {
        const size_t image = task / steps, t = task % steps;
        const size_t to = ((first_image_ + image) * request_.steps + start_ + first + t) * elements;
        const size_t record = (image * steps + t) * p.step_elements();
        if (result.u) write_state(recording.u, record, result.u + to, p);
        if (result.v) write_state(recording.v, record, result.v + to, p);
      });
    if (!result.final_v || !last_chunk() || first + steps < steps_) return;
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
  Tails tails_;
  int start_ = 0, steps_ = 0, first_image_ = 0, images_ = 0;
};

}  // namespace

void run(Plan &plan, const Request &request) { Run(plan, request).all(); }

int64_t run_bytes(const Plan &plan, int images, int steps) {
  const int stored = chunk_length(steps);
  int64_t peak = 0, held = 0, states = 0;
  std::vector<char> stepwise;
  for (const Span &span : plan.spans)
    stepwise.insert(stepwise.end(), span.last - span.first, span.stepwise);
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
      if (p.late) held += map_bytes(p, p.late) * images * 2;
      if (p.kind == NMC_NEURON && (stored < steps || p.is_output || stepwise[i]))
        states += static_cast<int64_t>(p.step_elements()) * images * (p.own < 0 ? 8 : 12);
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
