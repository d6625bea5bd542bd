"""Data of a user as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.errors import NmcError


def numbers(who: str, x: npt.ArrayLike) -> npt.NDArray[Any]:
    """Data of a user as an array of bools, integers or floats.

    Raises:
        NmcError: NMC-D02 for texts, objects, complex numbers, and rows of different lengths.
    """
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        problem = f"data that are no array: {str(error).splitlines()[0][:120]}"
        raise NmcError("NMC-D02", who, problem, "give samples of one shape") from None
    if array.dtype.kind not in "buif":
        raise NmcError("NMC-D02", who, f"data of type {array.dtype}", "give numbers")
    return array
