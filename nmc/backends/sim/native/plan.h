// A network that is ready to run: geometry, parameters padded and laid out for the kernels, weights packed on demand.
#pragma once
#include <stdint.h>

#include <memory>
#include <vector>

#include "abi.h"
#include "arena.h"
#include "kernels.h"

namespace nmc {

enum class Path { kEvent, kDense, kValued, kDepthwise, kPool, kIdentity, kReshape };

// Output channels first..first+width of a population; the source channels that can reach them through one projection.
struct Block {
  int first, width;
};
struct Window {
  int first, channels;
  bool operator==(const Window &other) const { return first == other.first && channels == other.channels; }
};

// An int32 parameter as [pixel or once][cs].
struct Parameter {
  std::vector<int32_t> values;
  size_t pixel_stride = 0;
  bool present = false;
  const int32_t *at(size_t pixel, int channel) const { return values.data() + pixel * pixel_stride + channel; }
};

struct Population {
  int kind, channels, height, width, cs;
  bool wide, constant, is_output;
  bool per_pixel = false;  // some parameter of its neurons differs between pixels
  bool forgets = false;  // neurons whose u and v say nothing about the next step
  int max_payload, host_exp;
  Parameter bias, threshold, drop, keep_u, keep_v, v0;
  FireFn fire = nullptr;
  // A synapse of every neuron onto itself, lag 1, and nothing else late: its projection, or -1. The update takes `drop`
  // from u then, so that the population runs over all steps as if there were no loop.
  int own = -1;
  std::vector<Block> blocks;
  std::vector<int> incoming, outgoing;  // projections
  int last_use = -1;                    // population after which the map can go
  bool has_host = false;
  int late = 0;  // the longest lag of what reads it

  size_t pixels() const { return static_cast<size_t>(height) * width; }
  size_t step_elements() const { return pixels() * cs; }
  size_t payload_bytes() const { return wide ? 4 : 1; }
};

struct Projection {
  int source, target;
  nmc_operator op;
  Geometry geometry;
  int groups, weight_bytes, shift;
  bool on_host, depthwise;
  int host_shift, lag;
  const void *weight;
  std::vector<Window> windows;  // per block of the target
  // Packed weights, one per block; empty until first used.
  std::vector<Bytes> event, dense, valued;
  std::vector<int32_t> channel_weights;  // depthwise [tap][cs], pool and identity [cs], reshape [part][pixel][cs]
  std::vector<uint32_t> gather;          // reshape: element of the source map, [part][pixel][cs]
  // Fan-out of a source neuron = rows[y] * columns[x] * fan_channels.
  std::vector<int32_t> rows, columns;
  int64_t fan_channels = 1;

  int taps() const { return geometry.kernel_h * geometry.kernel_w; }
  bool is_convolution() const { return op == NMC_CONV && !depthwise; }
  bool is_plain_copy = false;  // identity of weight 1
};

// Populations first..last-1: one, or several that feed each other in a loop. stepwise: they take each step together,
// because of a loop or of a lag; all others run over all steps of a chunk at once.
struct Span {
  int first, last;
  bool stepwise;
};

struct Plan {
  Plan(const nmc_population *populations, int population_count, const nmc_projection *projections,
       int projection_count, const Kernels *kernels, int path);

  // Packs what `path` needs of a projection. Not thread-safe.
  void pack(Projection &projection, Path path);
  // Bytes of the packed weights once every path has been used.
  int64_t packed_bytes() const;

  const Kernels *kernels;
  int forced;  // nmc_path
  std::vector<Population> populations;
  std::vector<Projection> projections;
  std::vector<Span> spans;
  Arena arena;

 private:
  void add_population(const nmc_population &from);
  void add_projection(const nmc_projection &from);
  void choose_blocks();
  bool runs_alone(int population);
  void find_spans();
};

int round_up(int value, int multiple);
// Quads of channels that the dense kernel reads per tap.
int quads_of(const Population &source, const Window &window);

}  // namespace nmc
