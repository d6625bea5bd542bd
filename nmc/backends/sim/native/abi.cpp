#include "abi.h"

#include <new>

#include "isa.h"
#include "plan.h"
#include "run.h"

struct nmc_plan {
  nmc::Plan plan;
};

int32_t nmc_abi(void) { return NMC_ABI; }

const char *nmc_best_isa(void) { return nmc::best_kernels()->name; }

nmc_plan *nmc_plan_create(const nmc_population *populations, int32_t population_count,
                          const nmc_projection *projections, int32_t projection_count, const char *isa, int32_t path) {
  try {
    const nmc::Kernels *kernels = nmc::kernels_named(isa);
    if (!kernels) return nullptr;
    return new nmc_plan{nmc::Plan(populations, population_count, projections, projection_count, kernels, path)};
  } catch (const std::bad_alloc &) {
    return nullptr;
  }
}

void nmc_plan_free(nmc_plan *plan) { delete plan; }

int32_t nmc_plan_run(nmc_plan *plan, const int64_t *x, int64_t x_stride, int32_t images, int32_t steps,
                     int32_t threads, const nmc_result *results, const nmc_counters *counters) {
  try {
    nmc::run(plan->plan, {x, x_stride, images, steps, threads, results, *counters});
    return NMC_OK;
  } catch (const std::bad_alloc &) {
    return NMC_NO_MEMORY;
  } catch (const nmc::BadInput &) {
    return NMC_BAD_INPUT;
  } catch (...) {
    return NMC_INTERNAL;
  }
}

int64_t nmc_plan_bytes(const nmc_plan *plan, int32_t images, int32_t steps) {
  return nmc::run_bytes(plan->plan, images, steps);
}
