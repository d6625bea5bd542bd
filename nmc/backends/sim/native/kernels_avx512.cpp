// Compiled with AVX-512 F, BW, DQ, VL and VNNI; called only where the CPU has them (isa.cpp).
#define NMC_AVX512
#include "kernels_table.h"

const nmc::Kernels *nmc::avx512_kernels() {
  static const Kernels table = make_kernels("avx512");
  return &table;
}
