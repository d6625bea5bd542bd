"""Matrix products of integers in torch, each with the range in which it is exact and a start-up test.

Every convolution is a product of gathered windows with a matrix of weights, never a library's convolution:
those choose algorithms by shape, and Winograd's and FFT's are not exact. A plain product adds the same
integers in some order, and that is exact as long as no partial sum leaves the format: below 2**24 in float32,
2**53 in float64, 2**31 in int32. TF32 and bfloat16 products are never used (``full_precision``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nmc.errors import NmcError

ALIGNMENT = 8
"""CUDA's integer product wants inner and outer sizes that are multiples of 8,"""
FEWEST_ROWS = 17
"""and more than 16 rows; both are kept on the CPU too, so that its tests cover them."""


@dataclass(frozen=True)
class Route:
    """One way to multiply matrices.

    dtype: of both factors. lowest, highest: values that the factors may hold. limit: sums of magnitudes of
    products stay below this. grouped: whether it multiplies batches of matrices.
    multiply: (G, M, K), (G, K, N) -> (G, M, N).
    """

    name: str
    dtype: torch.dtype
    lowest: int
    highest: int
    limit: int
    grouped: bool
    multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def holds(self, low: int, high: int) -> bool:
        """Whether factors in low..high are exact in ``dtype``."""
        return self.lowest <= low and high <= self.highest

    def padded(self, size: int) -> int:
        """K and N of the matrices that it multiplies, from those that are wanted."""
        return size if self.grouped else -(-size // ALIGNMENT) * ALIGNMENT

    def rows(self, count: int) -> int:
        """M, likewise."""
        return count if self.grouped else max(count, FEWEST_ROWS)


def _multiply_integers(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return torch._int_mm(left[0], right[0])[None]


def _of_floats(name: str, dtype: torch.dtype, bits: int) -> Route:
    return Route(name, dtype, 1 - (1 << bits), (1 << bits) - 1, 1 << bits, True, torch.bmm)


INT8 = Route("int8", torch.int8, -128, 127, 1 << 31, False, _multiply_integers)
FLOAT32 = _of_floats("float32", torch.float32, 24)
FLOAT64 = _of_floats("float64", torch.float64, 53)
ROUTES = (INT8, FLOAT32, FLOAT64)
"""In order of preference."""
FUSED = "triton"


def full_precision() -> bool:
    """Whether torch multiplies float32 matrices in float32: users may have allowed TF32 or bfloat16.

    Newer versions of torch have two interfaces for that, and refuse to answer when these disagree.
    """
    try:
        return bool(torch.get_float32_matmul_precision() == "highest")
    except RuntimeError:
        return False


def self_test(route: Route, device: torch.device) -> str:
    """What is wrong with a route on a device; empty when it gives exact products.

    The factors reach the ends of the route's range with sums just below its limit, all of one sign (where
    partial sums would saturate) and of both (where they would cancel), in small and large matrices. Without
    VNNI, the CPU's integer product fails here: it adds pairs in 16 bits.
    """
    rng = np.random.default_rng(0)
    for rows, inner, columns in ((17, 8, 8), (40, 72, 16), (64, 576, 64), (24, 2304, 16)):
        # One factor takes as many bits as the limit leaves, the other as many as the first leaves.
        for most in (1, min(route.highest, 127)):
            other = max(1, min(route.highest, (route.limit - 1) // (inner * (most + 1)) - 1))
            for signs in ((1, 1), (1, -1), (-1, -1), (0, 0)):
                left = _factor(rng, (rows, inner), most, signs[0])
                right = _factor(rng, (inner, columns), other, signs[1])
                problem = _compare(route, device, left, right)
                if problem:
                    return f"{rows} x {inner} x {columns}: {problem}"
    return ""


Integers = npt.NDArray[np.int64]


def _factor(rng: np.random.Generator, shape: tuple[int, int], most: int, sign: int) -> Integers:
    """Integers near ``most``, near ``-most - 1`` (the ends of int8) or, without sign, between them."""
    if sign > 0:
        return most - rng.integers(0, 2, shape) * (most > 1)
    if sign < 0:
        return rng.integers(0, 2, shape) - most - 1
    return rng.integers(-most - 1, most + 1, shape)


def _compare(route: Route, device: torch.device, left: Integers, right: Integers) -> str:
    expected = left.astype(np.float64) @ right.astype(np.float64)
    factors = (torch.from_numpy(one).to(device, route.dtype)[None] for one in (left, right))
    try:
        product = route.multiply(*factors)[0].to("cpu", torch.float64).numpy()
    except (RuntimeError, AttributeError) as error:
        return str(error).splitlines()[0][:120]
    wrong = int((product != expected).sum())
    return f"{wrong} of {expected.size} sums are wrong" if wrong else ""


def kernel_problem(device: torch.device) -> str:
    """Why the fused kernel (``triton_layer``) is not used on a device; empty when it is."""
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return "Triton needs a CUDA device"
    try:
        from nmc.backends.sim import triton_layer
    except ImportError:
        return "package triton is not installed"
    return triton_layer.problem(device)


@dataclass(frozen=True)
class Usable:
    """What passed its test on a device. products: in order of preference. fused: whether the kernel of
    ``triton_layer`` may be used. problems: name -> why something else is not used."""

    products: tuple[Route, ...]
    fused: bool
    problems: dict[str, str]


def usable(device: torch.device, names: Collection[str] | None = None) -> Usable:
    """Test routes on a device, all of them unless ``names`` says which; ``FUSED`` is the name of the kernel.

    Raises:
        NmcError: NMC-U03 for an unknown name, NMC-E01 when no product is left.
    """
    known = {route.name: route for route in ROUTES}
    wanted = [FUSED, *known] if names is None else list(names)
    problems = {}
    for name in wanted:
        if name != FUSED and name not in known:
            every = ", ".join((FUSED, *known))
            raise NmcError("NMC-U03", name, "is no route of the torch engine", f"routes: {every}")
        problem = kernel_problem(device) if name == FUSED else self_test(known[name], device)
        if problem:
            problems[name] = problem
    good = tuple(known[name] for name in wanted if name in known and name not in problems)
    if not good:
        reasons = "; ".join(f"{name}: {problem}" for name, problem in problems.items()) or "none is allowed"
        raise NmcError(
            "NMC-E01", f"torch:{device}", f"no exact product ({reasons})", "use --engine reference"
        )
    return Usable(good, FUSED in wanted and FUSED not in problems, problems)


def allowed(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """Without float32 while torch may compute it in fewer bits."""
    return routes if full_precision() else tuple(route for route in routes if route is not FLOAT32)
