#include "layer.h"

#include <string.h>

#include <algorithm>
#include <memory>

#include "dispatch.h"
#include "gate.h"
#include "update.h"

namespace nmc {

namespace {

constexpr size_t kStripBytes = 16384;  // currents of a strip: half of a small L1 cache
constexpr int kStripsPerThread = 24;
constexpr int kLeastSites = 3;
constexpr int kMergedColumns = 8;      // images are merged into one strip while their rows are shorter than this

int log_width(int width) { return width == 128 ? 3 : width == 64 ? 2 : width == 32 ? 1 : 0; }

// What one projection needs while a layer runs.
struct Feed {
  size_t number;
  Projection *projection;
  const Population *source;
  Map *map;
  bool constant;            // one current for all steps
  std::vector<Path> paths;  // per image group
  std::vector<const Lists *> repeated, valued;  // per block; NULL where no group needs them
};

// How much a worker has asked for of what follows `block`.
struct Cursor {
  const uint8_t *block = nullptr;
  size_t bytes = 0;
};

// Buffers of one worker.
struct Scratch {
  int32_t *currents, *constant_currents, *host_bias;
  uint32_t *list;
  RowRef *refs;
  Segment *segments;
  int32_t *sites;  // images, then columns
  std::vector<Cursor> cursors;  // per feed
  std::unique_ptr<FireSites> fire;
};

class Layer {
 public:
  explicit Layer(const LayerJob &job)
      : job_(job), plan_(job.plan), population_(job.plan.populations[job.population]), map_(job.map), update_(job) {
    group_size_ = std::max(1, std::min(job.images, kMergedColumns / population_.width));
    groups_ = (job.images + group_size_ - 1) / group_size_;
    steps_ = population_.constant ? 1 : job.steps;
    for (size_t i = 0; i < population_.incoming.size(); i++)
      if (population_.incoming[i] != population_.own)
        add_feed(plan_.projections[population_.incoming[i]], job.feeds[i]);
    for (Feed &feed : feeds_) choose(feed);
    for (Feed &feed : host_feeds_) choose(feed);
    following_ = next_convolution();
    // A strip of which every step has the same current keeps one row per site.
    varying_ = std::any_of(feeds_.begin(), feeds_.end(), [](const Feed &feed) { return !feed.constant; });
    current_steps_ = varying_ ? steps_ : 1;
  }

  void run() {
    const Population &p = population_;
    if (is_byte_sum()) return add_maps();
    // What is recorded is made by the update itself.
    if (p.forgets && !job_.recording.v && !job_.state.v) limits_ = firing_limits(plan_, p);
    take_scratch();
    const int64_t parts = static_cast<int64_t>(p.blocks.size()) * groups_;
    job_.team.each_row(parts, p.height, strips_per_row(), [&](int64_t part, int y, int64_t strip, int worker) {
      part_of_row(part / groups_, static_cast<int>(part % groups_), y, static_cast<int>(strip), scratch_[worker],
                  job_.tallies[worker]);
    });
    give_scratch();
  }

 private:
  void add_feed(Projection &projection, Map *map) {
    Feed feed = {};
    feed.number = feeds_.size() + host_feeds_.size();
    feed.projection = &projection;
    feed.source = &plan_.populations[projection.source];
    feed.map = map;
    feed.constant = feed.source->constant;
    (projection.on_host ? host_feeds_ : feeds_).push_back(feed);
  }

  void choose(Feed &feed) {
    Projection &p = *feed.projection;
    std::vector<char> repeated(job_.images, 0), valued(job_.images, 0);
    const Map &map = *feed.map;
    for (int g = 0; g < groups_; g++) {
      const int first = g * group_size_, last = std::min(job_.images, first + group_size_);
      Activity activity = {};
      for (int image = first; image < last; image++) {
        activity.events += map.image_events[image];
        activity.grades += map.image_grades[image];
      }
      activity.sites = static_cast<int64_t>(last - first) * map.steps * feed.source->pixels() * feed.source->channels;
      activity.rows = map.steps * std::max(population_.width - 2, last - first);
      const Path path = choose_path(plan_, p, activity);
      feed.paths.push_back(path);
      plan_.pack(p, path);
      for (int image = first; image < last; image++) {
        repeated[image] |= path == Path::kEvent;
        valued[image] |= path == Path::kValued;
      }
      const int64_t image_steps = static_cast<int64_t>(last - first) * job_.steps;
      if (path == Path::kDense) job_.counters.dense_steps[&p - plan_.projections.data()] += image_steps;
      else job_.counters.event_steps[&p - plan_.projections.data()] += image_steps;
    }
    make_lists(feed, repeated, false, feed.repeated);
    make_lists(feed, valued, true, feed.valued);
  }

  void make_lists(Feed &feed, const std::vector<char> &wanted, bool valued, std::vector<const Lists *> &lists) {
    if (std::none_of(wanted.begin(), wanted.end(), [](char x) { return x != 0; })) return;
    for (const Window &window : feed.projection->windows)
      lists.push_back(&lists_for(plan_, *feed.map, window, valued, wanted, job_.team, plan_.arena));
  }

  const Projection *next_convolution() const {
    for (size_t i = job_.population + 1; i < plan_.populations.size(); i++)
      for (int index : plan_.populations[i].incoming)
        if (plan_.projections[index].is_convolution()) return &plan_.projections[index];
    return nullptr;
  }

  // A relay that adds byte payloads one to one, such as a SEW join: no 32-bit currents are needed.
  bool is_byte_sum() const {
    return population_.kind == NMC_RELAY && !population_.wide &&
           std::all_of(feeds_.begin(), feeds_.end(), [&](const Feed &feed) {
             return feed.projection->is_plain_copy && !feed.source->wide && feed.constant == population_.constant;
           });
  }

  void add_maps() {
    const size_t bytes = map_.row_stride();
    const int64_t image_steps = static_cast<int64_t>(job_.images) * steps_;
    job_.team.each_row(image_steps, population_.height, 1, [&](int64_t step, int y, int64_t, int) {
      uint8_t *out = map_.data + step * map_.step_stride() + y * bytes;
      const uint8_t *sum = nullptr;
      for (const Feed &feed : feeds_) {
        const uint8_t *from = feed.map->data + step * feed.map->step_stride() + y * bytes;
        if (sum || feeds_.size() == 1) plan_.kernels->add_bytes(out, from, sum, bytes);
        sum = sum ? out : from;
      }
    });
  }

  int row_sites() const { return population_.width * group_size_; }
  int strips_per_row() const { return (row_sites() + strip_sites_ - 1) / strip_sites_; }

  // Sites of a strip so that there are enough strips for the threads to finish at nearly the same time.
  int sites_for_threads() const {
    if (job_.team.size() == 1) return row_sites();
    const int64_t rows = static_cast<int64_t>(population_.blocks.size()) * groups_ * population_.height;
    const int64_t per_row = (kStripsPerThread * job_.team.size() + rows - 1) / rows;
    return std::max<int>(kLeastSites, static_cast<int>((row_sites() + per_row - 1) / per_row));
  }

  void take_scratch() {
    const int widest = population_.blocks.front().width;
    strip_sites_ = std::max<int>(1, kStripBytes / (static_cast<size_t>(current_steps_) * widest * sizeof(int32_t)));
    strip_sites_ = std::min({strip_sites_, row_sites(), sites_for_threads()});
    size_t list = 0, segments = 0, refs = 0;
    for (const std::vector<Feed> *feeds : {&feeds_, &host_feeds_})
      for (const Feed &feed : *feeds) {
        segments = std::max<size_t>(segments, feed.projection->taps());
        refs = std::max<size_t>(refs, feed.projection->geometry.kernel_h);
        for (const Lists *lists : feed.repeated)
          list = std::max(list, lists->longest * feed.projection->geometry.kernel_h);
      }
    Arena &arena = plan_.arena;
    for (int worker = 0; worker < job_.team.size(); worker++) {
      Scratch s;
      s.currents = arena.take_array<int32_t>(static_cast<size_t>(strip_sites_) * current_steps_ * widest);
      s.constant_currents = arena.take_array<int32_t>(static_cast<size_t>(strip_sites_) * widest);
      s.host_bias = arena.take_array<int32_t>(static_cast<size_t>(strip_sites_) * widest);
      s.list = arena.take_array<uint32_t>(list + kListPad);
      s.refs = arena.take_array<RowRef>(refs + 1);
      s.segments = arena.take_array<Segment>(segments + 1);
      s.sites = arena.take_array<int32_t>(static_cast<size_t>(strip_sites_) * 2);
      s.cursors.resize(feeds_.size() + host_feeds_.size());
      s.fire = std::make_unique<FireSites>();
      scratch_.push_back(std::move(s));
    }
  }

  void give_scratch() {
    for (const Scratch &s : scratch_)
      for (const void *buffer : {static_cast<const void *>(s.currents), static_cast<const void *>(s.constant_currents),
                                 static_cast<const void *>(s.host_bias), static_cast<const void *>(s.list), static_cast<const void *>(s.refs),
                                 static_cast<const void *>(s.segments), static_cast<const void *>(s.sites)})
        plan_.arena.give(buffer);
  }

  // One strip of an output row of one block; the sites of all images of a group are ordered by column, then image.
  void part_of_row(int64_t block_index, int group, int y, int part, Scratch &scratch, Tally &tally) const {
    const int first_image = group * group_size_, images = std::min(group_size_, job_.images - first_image);
    const int first = part * strip_sites_, last = std::min(first + strip_sites_, population_.width * images);
    if (first >= last) return;  // the last group may hold fewer images
    int32_t *image_of = scratch.sites, *column_of = scratch.sites + strip_sites_;
    for (int site = first; site < last; site++) {
      image_of[site - first] = first_image + site % images;
      column_of[site - first] = site / images;
    }
    Strip strip = {last - first, current_steps_, population_.blocks[block_index].width, y, image_of, column_of,
                   scratch.currents, false};
    if (!limits_.empty()) return gate_strip(block_index, strip, tally);
    one_strip(block_index, group, strip, scratch, tally);
  }

  // Currents and update in one, for a population with `limits_`.
  void gate_strip(int64_t b, Strip strip, Tally &tally) const {
    const int first_channel = population_.blocks[b].first;
    int32_t *spikes = strip.acc;  // free: no currents are needed
    strip.steps = steps_;
    plan_.kernels->gate({window_args(feeds_.front(), first_channel), limits_.data() + first_channel,
                         map_.data + first_channel, map_.image_stride(), map_.step_stride(), population_.width,
                         population_.cs, spikes},
                        strip);
    update_.count_spikes(strip, 0, strip.sites, spikes, tally);
  }

  void one_strip(int64_t b, int group, Strip &strip, Scratch &scratch, Tally &tally) const {
    const int32_t *host_bias = nullptr;
    if (population_.has_host) {
      make_host_bias(b, group, strip, scratch);
      host_bias = scratch.host_bias;
    }
    for (const Feed &feed : feeds_) {
      if (feed.constant && varying_) {
        Strip once = strip;
        once.steps = 1;
        once.acc = scratch.constant_currents;
        once.add = false;
        add_currents(feed, b, group, once, scratch);
        spread(once, strip);
      } else {
        add_currents(feed, b, group, strip, scratch);
      }
      strip.add = true;
    }
    if (feeds_.empty()) memset(strip.acc, 0, static_cast<size_t>(strip.sites) * strip.width * sizeof *strip.acc);
    update_.strip(b, strip, varying_, host_bias, *scratch.fire, tally);
  }

  // Adds a current that is the same in every step.
  static void spread(const Strip &once, const Strip &strip) {
    for (int site = 0; site < strip.sites; site++)
      for (int t = 0; t < strip.steps; t++) {
        const int32_t *from = once.acc + static_cast<size_t>(site) * strip.width;
        int32_t *to = strip.acc + (static_cast<size_t>(site) * strip.steps + t) * strip.width;
        for (int c = 0; c < strip.width; c++) to[c] = (strip.add ? to[c] : 0) + from[c];
      }
  }

  // Bias in v units from what the host computes (backends/encode.py host_mantissas), [site][width].
  void make_host_bias(int64_t b, int group, const Strip &strip, Scratch &scratch) const {
    const int first_channel = population_.blocks[b].first;
    int32_t *bias = scratch.host_bias;
    for (int site = 0; site < strip.sites; site++)
      memcpy(bias + static_cast<size_t>(site) * strip.width,
             population_.bias.at(pixel(strip, site), first_channel), strip.width * sizeof *bias);
    Strip once = strip;
    once.steps = 1;
    once.acc = scratch.constant_currents;
    once.add = false;
    const size_t count = static_cast<size_t>(strip.sites) * strip.width;
    for (const Feed &feed : host_feeds_) {
      add_currents(feed, b, group, once, scratch);
      const int shift = feed.projection->host_shift;
      const int32_t half = (1 << shift) >> 1;
      for (size_t i = 0; i < count; i++) bias[i] += (once.acc[i] + half) >> shift;
    }
    for (size_t i = 0; i < count; i++) bias[i] <<= population_.host_exp;
  }

  size_t pixel(const Strip &strip, int site) const { return update_.pixel(strip, site); }

  void add_currents(const Feed &feed, int64_t b, int group, const Strip &strip, Scratch &scratch) const {
    const Projection &p = *feed.projection;
    const Kernels &kernels = *plan_.kernels;
    const Path path = feed.paths[group];
    const int log = log_width(strip.width), first_channel = population_.blocks[b].first;
    switch (path) {
      case Path::kEvent: {
        EventArgs args = {p.geometry, feed.repeated[b]->events(feed.map->steps), p.event[b].data(), p.shift,
                          ahead(feed, b, strip, scratch)};
        args.events.scratch = scratch.list;
        args.events.refs = scratch.refs;
        return kernels.event[log](args, strip);
      }
      case Path::kValued: {
        const EventArgs args = {p.geometry, feed.valued[b]->events(feed.map->steps), p.valued[b].data(), p.shift, {}};
        return (p.weight_bytes == 1 ? kernels.valued8 : kernels.valued32)[log](args, strip);
      }
      case Path::kDense: {
        const DenseArgs args = {p.geometry,
                                feed.map->view(),
                                reinterpret_cast<const int8_t *>(p.dense[b].data()),
                                p.windows[b].first,
                                quads_of(*feed.source, p.windows[b]),
                                feed.source->max_payload,
                                p.shift,
                                scratch.segments};
        return kernels.dense(args, strip);
      }
      case Path::kReshape: return reshape(feed, strip, first_channel);
      default: break;
    }
    const WindowArgs args = window_args(feed, first_channel);
    (path == Path::kPool        ? kernels.pool
     : path == Path::kDepthwise ? kernels.depthwise
                                : kernels.identity)(args, strip);
  }

  // The next part of the weights that are read after this block: on small maps every weight is used a few times only, and
  // most of the time would go by waiting for them.
  Ahead ahead(const Feed &feed, size_t b, const Strip &strip, Scratch &scratch) const {
    const bool last = b + 1 == feed.projection->event.size();
    const Projection *p = last ? following_ : feed.projection;
    if (!p || p->event.empty()) return {};
    const size_t next = last ? 0 : b + 1;
    const Block &block = plan_.populations[p->target].blocks[next];
    const size_t bytes = plan_.kernels->event_bytes(block.width, p->windows[next].channels, p->taps());
    Cursor &cursor = scratch.cursors[feed.number];
    const uint8_t *here = feed.projection->event[b].data();
    if (cursor.block != here) cursor = {here, 0};
    const size_t sites = population_.pixels() * job_.images;
    const size_t part = (bytes * job_.team.size() * strip.sites / sites + 63) / 64 * 64;
    const size_t from = std::min(cursor.bytes, bytes), to = std::min(from + part, bytes);
    cursor.bytes = to;
    return {p->event[next].data() + from, to - from};
  }

  WindowArgs window_args(const Feed &feed, int first_channel) const {
    const Projection &p = *feed.projection;
    return {p.geometry,
            feed.map->view(),
            feed.source->wide,
            feed.source->max_payload,
            p.channel_weights.data() + first_channel,
            static_cast<size_t>(population_.cs),
            first_channel,
            p.shift};
  }

  // Identity between populations of different shapes: neuron i to neuron i, the parts of a larger source added.
  void reshape(const Feed &feed, const Strip &strip, int first_channel) const {
    const Projection &p = *feed.projection;
    const MapView view = feed.map->view();
    const size_t part = population_.pixels() * population_.cs;
    for (int site = 0; site < strip.sites; site++)
      for (int t = 0; t < strip.steps; t++) {
        const size_t base = strip.image[site] * view.image_stride + t * view.step_stride;
        const size_t at = pixel(strip, site) * population_.cs + first_channel;
        int32_t *acc = strip.acc + (static_cast<size_t>(site) * strip.steps + t) * strip.width;
        for (int c = 0; c < strip.width; c++) {
          int32_t sum = 0;
          for (size_t of = at + c; of < p.gather.size(); of += part) {
            const size_t from = base + p.gather[of];
            const int32_t payload = feed.source->wide ? static_cast<const int32_t *>(view.data)[from]
                                                      : static_cast<const uint8_t *>(view.data)[from];
            sum += payload * p.channel_weights[of];
          }
          acc[c] = (strip.add ? acc[c] : 0) + (sum << p.shift);
        }
      }
  }

  const LayerJob &job_;
  Plan &plan_;
  const Population &population_;
  const Map &map_;
  const Update update_;
  int group_size_, groups_, steps_, strip_sites_ = 1, current_steps_;
  bool varying_;
  std::vector<Feed> feeds_, host_feeds_;
  std::vector<uint8_t> limits_;  // of a population that is gated (gate.h)
  const Projection *following_;  // the convolution that runs next, or NULL
  std::vector<Scratch> scratch_;
};

}  // namespace

void run_layer(const LayerJob &job) { Layer(job).run(); }

}  // namespace nmc
