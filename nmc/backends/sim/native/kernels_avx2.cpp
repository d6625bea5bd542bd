// Compiled with AVX2; called only where the CPU has it (isa.cpp).
#define NMC_AVX2
#include "kernels_table.h"

const nmc::Kernels *nmc::avx2_kernels() {
  static const Kernels table = make_kernels("avx2");
  return &table;
}
