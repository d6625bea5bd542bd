"""ctypes mirror of ``native/abi.h`` and the loading of the library."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, c_char_p, c_int32, c_int64, c_void_p
from pathlib import Path

from nmc.errors import NmcError

ABI = 2
LIBRARY = Path(__file__).parent / "native" / "_nmc_native.so"
REMEDY = "run `python -m nmc.backends.sim.build_native` (needs a C++17 compiler) or use the reference engine"

INPUT, NEURON, RELAY = range(3)
CONV, POOL, IDENTITY, RESHAPE = range(4)
PATHS = {"auto": 0, "event": 1, "dense": 2, "valued": 3}
ISAS = ("portable", "avx2", "avx512")
OK, NO_MEMORY, BAD_INPUT, INTERNAL = range(4)


class Parameter(Structure):
    _fields_ = (("values", c_void_p), ("pixels", c_int32))


class PopulationRow(Structure):
    _fields_ = (
        *(
            (name, c_int32)
            for name in (
                *("kind", "channels", "height", "width", "wide", "max_payload"),
                *("constant", "folds", "is_output", "host_exp"),
            )
        ),
        *((name, Parameter) for name in ("bias", "threshold", "drop", "keep_u", "keep_v", "v0")),
    )


class ProjectionRow(Structure):
    _fields_ = (
        *(
            (name, c_int32)
            for name in (
                *("source", "target", "op", "kernel_h", "kernel_w", "stride_h", "stride_w"),
                *("pad_h", "pad_w", "dilation_h", "dilation_w", "groups", "weight_bytes"),
            )
        ),
        ("weight", c_void_p),
        ("shift", c_int32),
        ("on_host", c_int32),
        ("host_shift", c_int32),
        ("lag", c_int32),
    )


COUNTERS = ("spikes", "grades", "synops", "graded_synops", "event_steps", "dense_steps", "nanoseconds")
PER_POPULATION = ("spikes", "grades", "nanoseconds")


class Counters(Structure):
    _fields_ = tuple((name, c_void_p) for name in COUNTERS)


class Result(Structure):
    _fields_ = tuple((name, c_void_p) for name in ("spikes", "u", "v", "total", "final_v"))


def load() -> ctypes.CDLL:
    """The library, with its prototypes set.

    Raises:
        NmcError: NMC-E01 when it was not built, cannot be loaded or has another ABI number.
    """
    if not LIBRARY.exists():
        raise NmcError("NMC-E01", "native", "the C++ engine was not built", REMEDY)
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise NmcError("NMC-E01", "native", f"the C++ engine cannot be loaded ({error})", REMEDY) from None
    library.nmc_abi.restype = c_int32
    if library.nmc_abi() != ABI:
        raise NmcError(
            "NMC-E01", "native", f"the C++ engine has ABI {library.nmc_abi()}, {ABI} is needed", REMEDY
        )
    library.nmc_best_isa.restype = c_char_p
    library.nmc_plan_create.restype = c_void_p
    library.nmc_plan_create.argtypes = [
        *(POINTER(PopulationRow), c_int32, POINTER(ProjectionRow), c_int32),
        *(c_char_p, c_int32),
    ]
    library.nmc_plan_free.restype = None
    library.nmc_plan_free.argtypes = [c_void_p]
    library.nmc_plan_run.restype = c_int32
    library.nmc_plan_run.argtypes = [
        *(c_void_p, c_void_p, c_int64, c_int32, c_int32, c_int32),
        *(POINTER(Result), POINTER(Counters)),
    ]
    library.nmc_plan_bytes.restype = c_int64
    library.nmc_plan_bytes.argtypes = [c_void_p, c_int32, c_int32]
    return library


def chosen_isa(library: ctypes.CDLL) -> str:
    """``NMC_NATIVE_ISA`` if it is set, else the best instruction set of this CPU.

    Raises:
        NmcError: NMC-U03 when the variable names none.
    """
    name = os.environ.get("NMC_NATIVE_ISA", "")
    if not name:
        best: bytes = library.nmc_best_isa()
        return best.decode()
    if name not in ISAS:
        raise NmcError("NMC-U03", "NMC_NATIVE_ISA", f"{name} is no instruction set", f"use {', '.join(ISAS)}")
    return name
