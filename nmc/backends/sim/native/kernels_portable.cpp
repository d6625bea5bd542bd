// Compiled with the compiler's default target: runs on every CPU that the library was built for.
#include "kernels_table.h"

const nmc::Kernels *nmc::portable_kernels() {
  static const Kernels table = make_kernels("portable");
  return &table;
}
