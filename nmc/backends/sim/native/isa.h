// Which kernels this CPU can run.
#pragma once
#include "kernels.h"

namespace nmc {

// NULL when the name is unknown or the CPU cannot run it.
const Kernels *kernels_named(const char *name);
const Kernels *best_kernels();

}  // namespace nmc
