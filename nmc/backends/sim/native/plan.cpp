#include "plan.h"

#include <string.h>

#include <algorithm>

namespace nmc {

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

namespace {

constexpr int32_t kNever = INT32_MAX;  // v stays below 2**24
constexpr int32_t kUnit = 64;          // u units of a weight unit

Parameter make_parameter(const nmc_parameter &from, const Population &population, int32_t absent) {
  Parameter to;
  to.present = from.values != nullptr;
  const size_t pixels = to.present ? static_cast<size_t>(from.pixels) : 1;
  to.values.assign(pixels * population.cs, absent);
  to.pixel_stride = pixels > 1 ? population.cs : 0;
  if (!to.present) return to;
  for (int c = 0; c < population.channels; c++)
    for (size_t p = 0; p < pixels; p++) to.values[p * population.cs + c] = from.values[c * pixels + p];
  return to;
}

VMode v_mode(const Parameter &keep_v) {
  if (!keep_v.present) return kIntegrate;
  const auto all = [&](int32_t value) {
    return std::all_of(keep_v.values.begin(), keep_v.values.end(), [&](int32_t x) { return x == value; });
  };
  return all(0) ? kForget : all(4096) ? kIntegrate : kLeak;
}

// How many outputs each source row (or column) reaches along one axis.
std::vector<int32_t> fan(int source, int target, int kernel, int stride, int pad, int dilation) {
  std::vector<int32_t> hits(source, 0);
  for (int o = 0; o < target; o++)
    for (int k = 0; k < kernel; k++) {
      const int i = o * stride - pad + k * dilation;
      if (i >= 0 && i < source) hits[i]++;
    }
  return hits;
}

}  // namespace

Plan::Plan(const nmc_population *from_populations, int population_count, const nmc_projection *from_projections,
           int projection_count, const Kernels *table, int path)
    : kernels(table), forced(path) {
  for (int i = 0; i < population_count; i++) add_population(from_populations[i]);
  for (int i = 0; i < projection_count; i++) add_projection(from_projections[i]);
  choose_blocks();
  find_spans();
}

void Plan::add_population(const nmc_population &from) {
  Population p;
  p.kind = from.kind;
  p.channels = from.channels;
  p.height = from.height;
  p.width = from.width;
  // Small inputs (grey, DVS, RGB) are padded to one quad, so that the first convolution wastes little.
  p.cs = from.kind == NMC_INPUT && from.channels <= 8 ? round_up(from.channels, 4) : round_up(from.channels, kLanes);
  p.wide = from.wide != 0;
  p.constant = from.constant != 0;
  p.is_output = from.is_output != 0;
  p.max_payload = from.max_payload;
  p.host_exp = from.host_exp;
  p.bias = make_parameter(from.bias, p, 0);
  p.threshold = make_parameter(from.threshold, p, kNever);
  p.drop = make_parameter(from.drop, p, 0);
  p.keep_u = make_parameter(from.keep_u, p, 0);
  p.keep_v = make_parameter(from.keep_v, p, 4096);
  p.v0 = make_parameter(from.v0, p, 0);
  for (const Parameter *parameter : {&p.bias, &p.threshold, &p.drop, &p.keep_u, &p.keep_v, &p.v0})
    p.per_pixel |= parameter->pixel_stride > 0;
  const bool has_u = std::any_of(p.keep_u.values.begin(), p.keep_u.values.end(), [](int32_t x) { return x != 0; });
  p.keep_u.present = has_u;
  p.forgets = p.kind == NMC_NEURON && !has_u && v_mode(p.keep_v) == kForget;
  p.fire = kernels->fire[has_u][v_mode(p.keep_v)][p.drop.present ? kSoft : kHard][from.folds != 0];
  populations.push_back(std::move(p));
}

void Plan::add_projection(const nmc_projection &from) {
  const int index = static_cast<int>(projections.size());
  Population &source = populations[from.source], &target = populations[from.target];
  Projection p;
  p.source = from.source;
  p.target = from.target;
  p.op = static_cast<nmc_operator>(from.op);
  p.geometry = {source.height, source.width,  source.cs,  from.kernel_h,   from.kernel_w,  from.stride_h,
                from.stride_w, from.pad_h,    from.pad_w, from.dilation_h, from.dilation_w};
  p.groups = from.groups;
  p.weight_bytes = from.weight_bytes;
  p.shift = from.shift;
  p.on_host = from.on_host != 0;
  p.host_shift = from.host_shift;
  p.lag = from.lag;
  p.weight = from.weight;
  p.depthwise = p.op == NMC_CONV && p.groups > 1 && p.groups == source.channels && p.groups == target.channels;
  if (p.op == NMC_CONV || p.op == NMC_POOL) {
    p.rows = fan(source.height, target.height, from.kernel_h, from.stride_h, from.pad_h, from.dilation_h);
    p.columns = fan(source.width, target.width, from.kernel_w, from.stride_w, from.pad_w, from.dilation_w);
    if (p.op == NMC_CONV) p.fan_channels = target.channels / p.groups;
  } else {
    p.rows.assign(source.height, 1);
    p.columns.assign(source.width, 1);
  }
  p.is_plain_copy = p.op == NMC_IDENTITY && p.shift == 0 && source.cs == target.cs &&
                    std::all_of(static_cast<const int32_t *>(p.weight),
                                static_cast<const int32_t *>(p.weight) + target.channels, [](int32_t w) { return w == 1; });
  target.incoming.push_back(index);
  target.has_host |= p.on_host;
  source.outgoing.push_back(index);
  source.late = std::max(source.late, p.lag);
  projections.push_back(std::move(p));
}

// Two blocks of weights fit the second-level cache: the one in use, and the next one on its way. Narrower blocks than
// the least one cost more instructions than that saves.
constexpr size_t kCachedBlock = 384 << 10;
constexpr int kLeastCached = 64;

// Blocks no wider than a group, so that grouped convolutions multiply few zeros; the same blocks for all projections
// into a population, because their currents meet in one strip.
void Plan::choose_blocks() {
  for (Population &p : populations) {
    int widest = kMaxBlock;
    for (int i : p.incoming) {
      const Projection &projection = projections[i];
      if (projection.is_convolution() && projection.groups > 1)
        widest = std::min(widest, std::max(kLanes, p.channels / projection.groups));
    }
    for (int i : p.incoming) {
      const Projection &projection = projections[i];
      if (!projection.is_convolution() || projection.groups > 1) continue;
      const size_t row = static_cast<size_t>(populations[projection.source].channels) * projection.taps();
      while (widest > kLeastCached && row * widest > kCachedBlock) widest /= 2;
    }
    for (int first = 0; first < p.cs;) {
      int width = kMaxBlock;
      while (width > widest || width > p.cs - first) width /= 2;
      p.blocks.push_back({first, width});
      first += width;
    }
  }
  for (Projection &p : projections) {
    if (!p.is_convolution()) continue;
    const Population &source = populations[p.source], &target = populations[p.target];
    const int in_group = source.channels / p.groups, out_group = target.channels / p.groups;
    for (const Block &block : target.blocks) {
      const int last = std::min(block.first + block.width, target.channels) - 1;
      const int first_group = block.first / out_group, last_group = last / out_group;
      p.windows.push_back({first_group * in_group, (last_group - first_group + 1) * in_group});
    }
  }
}

void Plan::find_spans() {
  const int count = static_cast<int>(populations.size());
  std::vector<int> reach(count);
  for (int i = 0; i < count; i++) reach[i] = i;
  for (const Projection &p : projections) reach[p.target] = std::max(reach[p.target], p.source);
  for (int first = 0, last; first < count; first = last) {
    bool stepwise = false;
    last = first + 1;
    for (int i = first; i < last; i++) {
      last = std::max(last, reach[i] + 1);
      for (int index : populations[i].incoming) stepwise |= projections[index].lag > 0;
    }
    spans.push_back({first, last, stepwise});
    if (stepwise && last == first + 1) spans.back().stepwise = !runs_alone(first);
  }
  for (const Span &span : spans)
    for (int i = span.first; i < span.last; i++)
      for (int index : populations[i].incoming) {
        int &use = populations[projections[index].source].last_use;
        use = std::max(use, span.last - 1);
      }
}

// Whether the only late projection is one to one, from the population to itself: then the update does it.
bool Plan::runs_alone(int population) {
  Population &p = populations[population];
  int own = -1;
  for (int index : p.incoming) {
    const Projection &projection = projections[index];
    if (projection.lag == 0) continue;
    if (own >= 0 || projection.source != population || projection.op != NMC_IDENTITY || projection.lag != 1)
      return false;
    own = index;
  }
  if (own < 0 || p.kind != NMC_NEURON || p.drop.present) return false;
  const Projection &projection = projections[own];
  const int32_t *weight = static_cast<const int32_t *>(projection.weight);
  p.own = own;
  p.forgets = false;
  p.drop.values.assign(p.cs, 0);
  p.drop.pixel_stride = 0;
  for (int c = 0; c < p.channels; c++) p.drop.values[c] = -weight[c] * (1 << projection.shift) * kUnit;
  p.fire = kernels->fire[p.keep_u.present][v_mode(p.keep_v)][kOwn][1];
  return true;
}

// Quads per tap: the whole channel stride where the window is the whole source, because a kernel row is then one run.
int quads_of(const Population &source, const Window &window) {
  if (window.first == 0 && window.channels == source.channels) return source.cs / 4;
  return round_up(window.channels, 4) / 4;
}

namespace {

// The block's weights as [channel][window channel][tap], zero between groups and for padded channels.
template <class W>
std::vector<W> dense_block(const Plan &plan, const Projection &p, size_t b) {
  const Population &target = plan.populations[p.target];
  const Block &block = target.blocks[b];
  const Window &window = p.windows[b];
  const int in_group = plan.populations[p.source].channels / p.groups, out_group = target.channels / p.groups;
  const size_t taps = p.taps();
  const W *from = static_cast<const W *>(p.weight);
  std::vector<W> to(block.width * static_cast<size_t>(window.channels) * taps, 0);
  for (int o = 0; o < block.width && block.first + o < target.channels; o++) {
    const size_t channel = block.first + o;
    const size_t offset = channel / out_group * in_group - window.first;
    std::copy_n(from + channel * in_group * taps, in_group * taps,
                to.data() + (static_cast<size_t>(o) * window.channels + offset) * taps);
  }
  return to;
}

template <class W>
Bytes pack_valued(const std::vector<W> &weights, int width, int window, size_t taps) {
  Bytes out(window * taps * width * sizeof(W));
  W *to = reinterpret_cast<W *>(out.data());
  for (size_t tap = 0; tap < taps; tap++)
    for (int c = 0; c < window; c++)
      for (int o = 0; o < width; o++)
        *to++ = weights[(static_cast<size_t>(o) * window + c) * taps + tap];
  return out;
}

std::vector<int32_t> channel_weights(const Projection &p, const Population &target) {
  const size_t taps = p.depthwise ? p.taps() : 1;
  std::vector<int32_t> to(taps * target.cs, 0);
  for (int c = 0; c < target.channels; c++)
    for (size_t tap = 0; tap < taps; tap++) {
      const size_t at = c * taps + tap;
      to[tap * target.cs + c] = p.weight_bytes == 1 ? static_cast<const int8_t *>(p.weight)[at]
                                                    : static_cast<const int32_t *>(p.weight)[at];
    }
  return to;
}

// Neuron i in (C, H, W) order goes to neuron i, modulo the target's size.
void pack_reshape(Projection &p, const Population &source, const Population &target) {
  const size_t size = target.pixels() * target.channels, part = target.pixels() * target.cs;
  const size_t parts = source.pixels() * source.channels / size;
  p.gather.assign(parts * part, 0);
  p.channel_weights.assign(parts * part, 0);
  for (size_t i = 0; i < parts * size; i++) {
    const size_t in_part = i % size;
    const size_t to = i / size * part + in_part % target.pixels() * target.cs + in_part / target.pixels();
    p.gather[to] = static_cast<uint32_t>(i % source.pixels() * source.cs + i / source.pixels());
    p.channel_weights[to] = static_cast<const int32_t *>(p.weight)[i];
  }
}

}  // namespace

void Plan::pack(Projection &p, Path path) {
  const Population &source = populations[p.source], &target = populations[p.target];
  if (path == Path::kReshape) {
    if (p.gather.empty()) pack_reshape(p, source, target);
    return;
  }
  if (path == Path::kDepthwise || path == Path::kPool || path == Path::kIdentity) {
    if (p.channel_weights.empty()) p.channel_weights = channel_weights(p, target);
    return;
  }
  std::vector<Bytes> &packed = path == Path::kEvent ? p.event : path == Path::kDense ? p.dense : p.valued;
  if (!packed.empty()) return;
  std::vector<Bytes> blocks;
  for (size_t b = 0; b < target.blocks.size(); b++) {
    const int width = target.blocks[b].width, window = p.windows[b].channels;
    if (p.weight_bytes == 4) {
      blocks.push_back(pack_valued(dense_block<int32_t>(*this, p, b), width, window, p.taps()));
      continue;
    }
    const std::vector<int8_t> weights = dense_block<int8_t>(*this, p, b);
    if (path == Path::kEvent) {
      blocks.emplace_back(kernels->event_bytes(width, window, p.taps()));
      kernels->pack_event(weights.data(), width, window, p.taps(), blocks[b].data());
    } else if (path == Path::kDense) {
      const int quads = quads_of(source, p.windows[b]);
      blocks.emplace_back(kernels->dense_bytes(width, quads, p.taps()));
      kernels->pack_dense(weights.data(), width, window, quads, p.taps(), reinterpret_cast<int8_t *>(blocks[b].data()));
    } else {
      blocks.push_back(pack_valued(weights, width, window, p.taps()));
    }
  }
  packed = std::move(blocks);
}

int64_t Plan::packed_bytes() const {
  int64_t bytes = 0;
  for (const Projection &p : projections) {
    const Population &source = populations[p.source], &target = populations[p.target];
    if (!p.is_convolution()) {
      const int64_t parts = p.op == NMC_RESHAPE ? source.channels * source.pixels() / (target.channels * target.pixels()) : 1;
      bytes += parts * static_cast<int64_t>(target.pixels()) * target.cs * 8;
      continue;
    }
    const bool both = p.weight_bytes == 1 && !source.wide;
    for (size_t b = 0; b < target.blocks.size(); b++)
      bytes += static_cast<int64_t>(target.blocks[b].width) * round_up(p.windows[b].channels, kLanes) * p.taps() *
               p.weight_bytes * (both ? 2 : 1);
  }
  return bytes;
}

}  // namespace nmc
