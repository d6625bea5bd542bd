"""How the compiled engines see a network: every population a map, every weight its smallest mantissas."""

from __future__ import annotations

import numpy as np

from nmc.errors import InternalError
from nmc.ir import Fixed, IntArray, Projection, Shape

CURRENT_LIMIT = 1 << 24
"""Sums below this, and the limits below, leave 32-bit arithmetic room for ``a << 6`` and ``u + bias + v``
(``native/fire.h``)."""
BIAS_LIMIT = 1 << 29
STATE_LIMIT = 1 << 30


def geometry(shape: Shape) -> tuple[int, int, int]:
    """(channels, height, width); anything but (C, H, W) is flat."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    return int(np.prod(shape, dtype=np.int64)), 1, 1


def fixed_weight(projection: Projection) -> Fixed:
    """The weight; its mantissas are used as they are, since ``value`` would be a second copy."""
    if not isinstance(projection.weight, Fixed) or projection.weight.exp < 0:
        raise InternalError(f"projection {projection.name} has no integer weight")
    return projection.weight


def split_weight(projection: Projection) -> tuple[IntArray, int]:
    """Mantissas without common trailing zero bits, and the shift that makes weights of them."""
    weight = fixed_weight(projection)
    bits = int(np.bitwise_or.reduce(np.abs(weight.mant), axis=None)) if weight.mant.size else 0
    common = (bits & -bits).bit_length() - 1 if bits else 0
    return weight.mant >> common, weight.exp + common
