"""Data of a user: samples are numbers, labels are classes; what is not is refused."""

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


def refuse_infinite(code: str, who: str, values: npt.NDArray[Any]) -> None:
    """Raise NmcError of that code for values that are not finite."""
    unfit = int(values.size - np.isfinite(values).sum())
    if unfit:
        raise NmcError(code, who, f"{unfit} values are not finite")


def checked_labels(who: str, y: npt.ArrayLike | None, shape: tuple[int, ...]) -> npt.NDArray[np.int64] | None:
    """``y`` as class numbers, one for each sample of an ``x`` of that shape; NmcError NMC-D02 for others."""
    if y is None:
        return None
    labels = numbers(who, y)
    if labels.dtype.kind not in "iu" or labels.shape != shape[:1]:
        raise NmcError(
            "NMC-D02",
            who,
            f"y is {labels.dtype} of shape {labels.shape}, expected integers of shape {shape[:1]}",
            "give one class number per sample",
        )
    return labels.astype(np.int64)


def refuse_foreign_labels(who: str, y: npt.NDArray[np.int64] | None, classes: int) -> None:
    """Raise NmcError NMC-D02 for labels that a network with so many classes never answers."""
    if y is not None and y.size and (y.min() < 0 or y.max() >= classes):
        problem = f"labels {y.min()} to {y.max()}, the network answers 0 to {classes - 1}"
        raise NmcError("NMC-D02", who, problem, "count classes from 0")
