// The C ABI of nmc's native engine: plain structs, no Python headers. nmc/backends/sim/native_abi.py mirrors it.
#pragma once
#include <stdint.h>

#if defined(_WIN32)
#define NMC_EXPORT __declspec(dllexport)
#else
#define NMC_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

// Raised whenever a struct or a meaning below changes; the Python side refuses another number.
#define NMC_ABI 2

enum nmc_kind { NMC_INPUT = 0, NMC_NEURON = 1, NMC_RELAY = 2 };
enum nmc_operator { NMC_CONV = 0, NMC_POOL = 1, NMC_IDENTITY = 2, NMC_RESHAPE = 3 };
// How convolutions run: by activity, or always one way (for tests and measurements; results are the same).
enum nmc_path { NMC_PATH_AUTO = 0, NMC_PATH_EVENT = 1, NMC_PATH_DENSE = 2, NMC_PATH_VALUED = 3 };
enum nmc_status { NMC_OK = 0, NMC_NO_MEMORY = 1, NMC_BAD_INPUT = 2, NMC_INTERNAL = 3 };

// An int32 parameter: one value per channel (pixels = 1) or per neuron (pixels = height * width), as [channel][pixel].
// values = NULL: the parameter is absent.
struct nmc_parameter {
  const int32_t *values;
  int32_t pixels;
};

// Populations stand in an order that all projections without lag follow. Shapes that are not (C, H, W) are flat: channels = size, height = width = 1.
struct nmc_population {
  int32_t kind;
  int32_t channels, height, width;
  int32_t wide;         // payloads can leave 0..255 and are kept as int32
  int32_t max_payload;  // proven bound; 1: binary spikes
  int32_t constant;     // the same payloads in every step
  int32_t folds;        // a << 6 can leave 24 bits, so u must be folded
  int32_t is_output;
  int32_t host_exp;  // exponent of the bias that the host writes
  struct nmc_parameter bias;       // v units; with host input: mantissas
  struct nmc_parameter threshold;  // v units; absent: never fires
  struct nmc_parameter drop;       // v units, soft reset; absent: hard reset
  struct nmc_parameter keep_u;     // 4095 - du; absent: 0
  struct nmc_parameter keep_v;     // 4096 - dv; absent: 4096
  struct nmc_parameter v0;         // absent: 0
};

// The current of a projection is (sum of weight * payload) << shift. A dense layer is a convolution whose kernel is
// the whole source. Weights: conv (C_out, C_in / groups, K_h, K_w); pool and identity: one per channel.
struct nmc_projection {
  int32_t source, target;
  int32_t op;
  int32_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int32_t groups;
  int32_t weight_bytes;  // 1 (int8, conv only) or 4 (int32)
  const void *weight;    // stays alive and unchanged as long as the plan
  int32_t shift;
  int32_t on_host;
  int32_t host_shift;
  int32_t lag;  // what arrives was sent so many steps before; nothing before the first step
};

// Counters of one run; every array belongs to the caller and is added to. [population] or [projection].
struct nmc_counters {
  int64_t *spikes, *grades;
  int64_t *synops, *graded_synops;
  int64_t *event_steps, *dense_steps;  // per projection: image steps that ran event-driven and dense
  int64_t *nanoseconds;                // per population: its currents, neurons, event lists and counts
};

// What a run writes for one population; NULL where it is not wanted.
struct nmc_result {
  int32_t *spikes, *u, *v;  // [image][step][channel][pixel]
  int64_t *total;           // [image][channel][pixel], payloads summed over the steps
  int32_t *final_v;         // [image][channel][pixel], after the last step
};

struct nmc_plan;

NMC_EXPORT int32_t nmc_abi(void);
// The best instruction set of this CPU among "avx512", "avx2" and "portable".
NMC_EXPORT const char *nmc_best_isa(void);
// NULL when isa is unknown, the CPU lacks it or there is no memory.
NMC_EXPORT struct nmc_plan *nmc_plan_create(const struct nmc_population *populations, int32_t population_count,
                                            const struct nmc_projection *projections, int32_t projection_count,
                                            const char *isa, int32_t path);
NMC_EXPORT void nmc_plan_free(struct nmc_plan *plan);
// x: [image][channel][pixel] (frames, constant inputs) or [image][step][channel][pixel]; x_stride: elements from one
// image to the next. results: one per population. Not re-entrant for one plan.
NMC_EXPORT int32_t nmc_plan_run(struct nmc_plan *plan, const int64_t *x, int64_t x_stride, int32_t images,
                                int32_t steps, int32_t threads, const struct nmc_result *results,
                                const struct nmc_counters *counters);
// Bytes that a run of so many images and steps holds at once, buffers that the plan keeps included.
NMC_EXPORT int64_t nmc_plan_bytes(const struct nmc_plan *plan, int32_t images, int32_t steps);

#ifdef __cplusplus
}
#endif
