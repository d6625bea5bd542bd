// What the driver (plan.cpp) and the kernels (one translation unit per instruction set) share.
//
// Spike maps lie as [image][step][row][column][channel]; the channel stride `cs` is padded (to 16, for inputs to 4)
// and padded channels hold zeros. A kernel adds up currents for a strip: a few output sites (pixels of one output row)
// of one channel block, all steps. The neuron update then runs over the strip while it is still in the L1 cache.
//
// Only C headers here: an inline function of the C++ library compiled with AVX-512 flags could be picked by the linker
// for the code that runs on every CPU.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace nmc {

constexpr int kMaxBlock = 128;  // channels per block: 128, 64, 32 or 16
constexpr int kLanes = 16;      // channel padding of computed maps
constexpr int kEntryScale = 16;  // one step in a list is 16 bytes of weights, or a multiple for wider blocks
constexpr int kSlack = 256;     // bytes that kernels may read past the end of a map or a list
constexpr int kListPad = 64;    // entries that kernels may write past the end of a merged list

struct Geometry {
  int source_h, source_w, source_cs;
  int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
};

// Row r = site * steps + step of the currents is acc + r * width. Sites are ordered by x; equal x lie side by side.
struct Strip {
  int sites, steps, width, y;
  const int32_t *image, *x;  // [sites]
  int32_t *acc;
  bool add;  // onto what is there, else overwrite
};

struct MapView {
  const void *data;
  size_t image_stride, step_stride;  // elements
};

// One kernel row's events: where the source row's list is, and what turns its entries into weight rows.
struct RowRef {
  const uint32_t *entries, *offsets;
  int32_t base;
};

// Non-zero entries of a map, row by row ((image * steps + step) * source_h + iy): index = column * window + channel
// within the window. In a repeated list a payload of g stands g times and entries are kEntryScale * index; in a valued
// list entries are indices and `values` holds the payloads.
struct Events {
  const uint32_t *const *rows;
  const int32_t *const *values;  // NULL: repeated list
  const uint32_t *offsets;       // [row][source_w + 1], relative to the row's first entry
  int steps;
  int window;
  uint32_t *scratch;  // room for one merged list
  RowRef *refs;       // [kernel_h]
};

// Bytes that are read soon: a kernel asks for their cache lines while it computes.
struct Ahead {
  const uint8_t *from;
  size_t bytes;
};

struct EventArgs {
  Geometry geometry;
  Events events;
  const void *weights;  // of this block, as packed by pack_event or pack_valued
  int shift;
  Ahead ahead;
};

struct DenseArgs {
  Geometry geometry;
  MapView map;
  const int8_t *weights;  // of this block, as packed by pack_dense
  int first_channel;      // of the window
  int quads;              // groups of four channels in the window
  int max_payload;
  int shift;
  struct Segment *scratch;  // [kernel_h * kernel_w]
};

struct Segment {
  size_t input, weight;  // element offsets
  int quads;
};

struct WindowArgs {  // depthwise convolution, pool, identity
  Geometry geometry;
  MapView map;
  bool wide;               // int32 payloads
  int max_payload;
  const int32_t *weights;  // depthwise [tap][cs of the target], else [cs of the target]; at this block's first channel
  size_t tap_stride;       // depthwise
  int first_channel;
  int shift;
};

// Spikes of a strip's neurons, which fire where the sum of a pool's payloads reaches a limit.
struct GateArgs {
  WindowArgs window;
  const uint8_t *limits;  // [width]
  uint8_t *out;           // of image 0, step 0 and the first channel
  size_t image_stride, step_stride;
  int target_w, target_cs;
  int32_t *spikes;  // [site]
};

struct FireArgs {  // one site, one channel block; sites of one call have the same steps and width
  int steps, width;
  const int32_t *acc;
  size_t acc_step;  // 0 when the current is the same in every step
  const int32_t *bias, *threshold, *drop, *keep_u, *keep_v;
  const int32_t *u_in, *v_in;  // NULL: zeros
  int32_t *u_out, *v_out;      // may be NULL
  const int32_t *sent_in;      // kOwn: 1 where the neuron fired in the step before; NULL: nowhere
  int32_t *sent_out;           // may be NULL
  uint8_t *out;
  size_t out_step;
  int32_t *record_u, *record_v;  // may be NULL
  size_t record_step;
  int32_t *spikes;  // added to
};

enum VMode { kForget = 0, kIntegrate = 1, kLeak = 2 };  // keep_v = 0, 4096, anything
// What a spike does: v becomes 0; v loses drop; v becomes 0, and u loses drop one step later (a synapse onto itself).
enum Reset { kHard = 0, kSoft = 1, kOwn = 2 };

using StripEventFn = void (*)(const EventArgs &, const Strip &);
using StripDenseFn = void (*)(const DenseArgs &, const Strip &);
using StripWindowFn = void (*)(const WindowArgs &, const Strip &);
using FireFn = void (*)(const FireArgs *sites, int count);

// The largest sum that pools of bytes and gates add up as bytes.
constexpr int kByteSum = 255;

struct Kernels {
  const char *name;
  // Event-driven convolutions, [log2(width / 16)].
  StripEventFn event[4];
  StripEventFn valued8[4], valued32[4];
  // Dense convolution of byte payloads up to dense_max_payload; NULL where the CPU has nothing faster than `valued`.
  StripDenseFn dense;
  int dense_max_payload;
  StripWindowFn depthwise, pool, identity;
  void (*gate)(const GateArgs &, const Strip &);
  FireFn fire[2][3][3][2];  // [has u][VMode][Reset][folds]
  void (*relay)(const FireArgs &, bool wide);
  // out = first + second, bytes; second may be NULL.
  void (*add_bytes)(uint8_t *out, const uint8_t *first, const uint8_t *second, size_t n);
  // Packing: `dense_weights` is [channel of the block][channel of the window][tap], zero where nothing is connected.
  size_t (*event_bytes)(int width, int window, int taps);
  void (*pack_event)(const int8_t *dense_weights, int width, int window, int taps, uint8_t *out);
  size_t (*dense_bytes)(int width, int quads, int taps);
  void (*pack_dense)(const int8_t *dense_weights, int width, int window, int quads, int taps, int8_t *out);
  // Payloads [channel][pixel] into a byte map; whether all lie in 0..highest (at most 255).
  bool (*read_bytes)(const int64_t *from, size_t channel_stride, int channels, size_t pixels, int64_t highest,
                     uint8_t *to, int cs);
  // One row of a byte map: adds non-zero payloads and, unless binary, their sums to the columns' counts, and the row's
  // to sums[0] and sums[1].
  void (*count_row)(const uint8_t *row, int columns, int cs, bool binary, int32_t *events, int32_t *grades,
                    int64_t *sums);
  // Non-zero bytes among n.
  size_t (*count_bytes)(const uint8_t *bytes, size_t n);
  // The repeated list of a window of one row of a byte map.
  size_t (*list_row)(const uint8_t *row, int columns, int cs, int first, int window, bool binary, uint32_t *out,
                     uint32_t *offsets);
};

const Kernels *portable_kernels();
const Kernels *avx2_kernels();
const Kernels *avx512_kernels();

}  // namespace nmc
