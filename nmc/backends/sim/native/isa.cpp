#include "isa.h"

#include <string.h>

namespace nmc {

// NMC_HAS_X86 is set by the build when the AVX translation units are part of the library.
static bool has_avx512() {
#if defined(NMC_HAS_X86)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("popcnt");
#else
  return false;
#endif
}

static bool has_avx2() {
#if defined(NMC_HAS_X86)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
#else
  return false;
#endif
}

const Kernels *kernels_named(const char *name) {
  if (strcmp(name, "portable") == 0) return portable_kernels();
#if defined(NMC_HAS_X86)
  if (strcmp(name, "avx2") == 0 && has_avx2()) return avx2_kernels();
  if (strcmp(name, "avx512") == 0 && has_avx512()) return avx512_kernels();
#endif
  return nullptr;
}

const Kernels *best_kernels() {
  if (has_avx512()) return kernels_named("avx512");
  if (has_avx2()) return kernels_named("avx2");
  return portable_kernels();
}

}  // namespace nmc
