"""A SLAYER ``.net`` file (HDF5) as layers of plain fields, without torch, Lava or lava-dl.

lava-dl writes one group per layer, ``layer/0`` to ``layer/n-1``, each fed by the one before
(lava-dl 0.6, slayer/block/base.py, ``export_hdf5``). Its own reader takes what it knows and drops the rest;
here types and fields are closed lists, and what is wrong is collected, as far as reading can go on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nmc import safeio
from nmc.errors import NmcError
from nmc.frontend.raw import Finding, nearest
from nmc.ir import IntArray

EXTENSION = ".net"

REQUIRED: dict[str, tuple[str, ...]] = {
    "input": ("shape",),
    "flatten": (),
    "average": ("shape",),
    "conv": ("shape", "stride", "padding", "dilation", "groups", "weight"),
    "pool": ("shape", "stride", "padding", "dilation", "weight"),
    "dense": ("shape", "weight"),
    "dense_rec": ("shape", "weight", "weight_rec"),
}
OPTIONAL: dict[str, tuple[str, ...]] = {
    "input": ("weight", "bias"),
    "flatten": ("shape",),
    "conv": ("inChannels", "outChannels", "kernelSize", "bias", "delay"),
    "pool": ("kernelSize", "delay"),
    "dense": ("inFeatures", "outFeatures", "bias", "delay"),
    "dense_rec": ("inFeatures", "outFeatures", "bias", "delay"),
}
REFUSED = {
    "convT": "a transposed convolution",
    "unpool": "an unpooling layer",
    "concat": "a concatenation: the file does not say of what",
    "dense_comp": "complex weights",
}
NEURONS = ("LOIHI", "CUBA")
NEURON_FIELDS = (
    "iDecay",
    "vDecay",
    "vThMant",
    "refDelay",
    "gradedSpike",
    "messageBits",
    "wgtExp",
    "weight_exp",
)
TRAINING_FIELDS = ("theta", "tauRho", "scaleRho")
"""Of the surrogate gradient; older files hold them."""


@dataclass(frozen=True, eq=False)
class NetLayer:
    """One layer. fields and neuron hold whole numbers; neuron is None where the file has none. error: why it
    could not be read."""

    index: int
    kind: str
    fields: Mapping[str, IntArray] = field(default_factory=dict)
    neuron: Mapping[str, IntArray] | None = None
    error: NmcError | None = None

    @property
    def name(self) -> str:
        return f"layer{self.index}.{self.kind}"

    def one(self, key: str, default: int | None = None) -> int:
        """A field that holds one number."""
        value = self.fields.get(key)
        if value is None and default is not None:
            return default
        if value is None or value.size != 1:
            found = "nothing" if value is None else f"{value.size} numbers"
            raise NmcError(
                "NMC-F04", self.name, f"field '{key}' holds {found}, expected one number", "export it again"
            )
        return int(value.reshape(()))


@dataclass(frozen=True, eq=False)
class NetFile:
    """All layers in order, and the steps per sample that the file was trained with."""

    name: str
    layers: tuple[NetLayer, ...]
    steps: int | None


def is_net(path: object) -> bool:
    """Whether this is the path of a ``.net`` file, by its name."""
    return isinstance(path, str | os.PathLike) and Path(path).suffix == EXTENSION


def read_net_file(path: str | os.PathLike[str]) -> tuple[NetFile, list[Finding]]:
    """Layers and findings.

    Raises:
        NmcError: NMC-F01 for what is no ``.net`` file, NMC-F02, F03 from the guards.
    """
    findings: list[Finding] = []
    layers: list[NetLayer] = []
    with safeio.open_hdf5(path) as file:
        groups = file.get("layer")
        if not _is_group(groups) or not len(groups):
            raise NmcError(
                "NMC-F01",
                os.fspath(path),
                "an HDF5 file without SLAYER's group 'layer'",
                "export it with lava-dl (export_hdf5)",
            )
        wanted = [str(index) for index in range(len(groups))]
        if set(groups) != set(wanted):
            strange = min(set(groups) - set(wanted))
            problem = f"its layers are not numbered 0 to {len(groups) - 1}: there is {strange!r:.40}"
            raise NmcError("NMC-F04", os.fspath(path), problem, "export it again")
        for index in range(len(groups)):
            try:
                layers.append(_layer(index, groups[str(index)], findings))
            except NmcError as error:
                layers.append(NetLayer(index, "?", _stated_shape(groups[str(index)]), error=error))
        steps = _steps(file.get("simulation"), findings)
    return NetFile(Path(path).stem, tuple(layers), steps), findings


def _steps(group: Any, findings: list[Finding]) -> int | None:
    """tSample / Ts; None where the file does not say."""
    try:
        times = (
            {} if not _is_group(group) else {key: _numbers("simulation", key, group[key]) for key in group}
        )
    except NmcError as error:
        findings.append(Finding.of(error))
        return None
    sample, step = times.get("tSample"), times.get("Ts", np.ones((), np.int64))
    if sample is None or sample.size != 1 or step.size != 1 or step.min() < 1 or sample.min() < step.max():
        return None
    return int(sample.reshape(()) // step.reshape(()))


def _layer(index: int, group: Any, findings: list[Finding]) -> NetLayer:
    who = f"layer{index}"
    if not _is_group(group):
        raise NmcError("NMC-F04", who, "is no layer but a bare dataset", "export it again")
    kind = _text(group.get("type"))
    if kind in REFUSED:
        raise NmcError("NMC-G05", f"{who}.{kind}", REFUSED[kind], "remove it, or train without it")
    if kind not in REQUIRED:
        known = nearest(str(kind), REQUIRED) or f"known types: {', '.join(REQUIRED)}"
        raise NmcError("NMC-F05", who, f"unknown layer type {kind!r:.60}", known)
    who = f"{who}.{kind}"
    allowed = (*REQUIRED[kind], *OPTIONAL.get(kind, ()))
    fields: dict[str, IntArray] = {}
    for key in group:
        if key in ("type", "neuron"):
            continue
        if key in allowed:
            fields[key] = _numbers(who, key, group[key])
        else:
            findings.append(_ignored(who, key))
    for key in REQUIRED[kind]:
        if key not in fields:
            raise NmcError("NMC-F04", who, f"field '{key}' of {kind} is missing", "export it again")
    neuron = group.get("neuron")
    return NetLayer(index, kind, fields, None if neuron is None else _neuron(who, neuron, findings))


def _stated_shape(group: Any) -> Mapping[str, IntArray]:
    """The shape of a layer that is wrong otherwise."""
    try:
        return {"shape": _numbers("", "shape", group["shape"])} if _is_group(group) else {}
    except (NmcError, KeyError):
        return {}


def _ignored(who: str, key: str) -> Finding:
    return Finding(
        "warning",
        "NMC-F04",
        who,
        f"field '{key}' is unknown and ignored",
        "nothing to do if the layer does not need it",
    )


def _neuron(who: str, group: Any, findings: list[Finding]) -> Mapping[str, IntArray]:
    if not _is_group(group):
        raise NmcError("NMC-F04", who, "field 'neuron' is no group", "export it again")
    kind = _text(group.get("type"))
    if kind not in NEURONS:
        remedy = f"train it with {' or '.join(NEURONS)} neurons (slayer.block.cuba)"
        raise NmcError("NMC-G05", who, f"neurons of type {kind!r:.40}, which no chip here computes", remedy)
    fields: dict[str, IntArray] = {}
    for key in group:
        if key in NEURON_FIELDS:
            fields[key] = _numbers(who, f"neuron/{key}", group[key])
            if fields[key].size != 1:
                problem = f"field 'neuron/{key}' holds {fields[key].size} numbers, expected one"
                raise NmcError("NMC-F04", who, problem, "give a layer one neuron")
        elif key not in ("type", *TRAINING_FIELDS):
            findings.append(_ignored(who, f"neuron/{key}"))
    for key in ("iDecay", "vDecay", "vThMant"):
        if key not in fields:
            raise NmcError("NMC-F04", who, f"field 'neuron/{key}' is missing", "export it again")
    return fields


def _numbers(who: str, key: str, dataset: Any) -> IntArray:
    """Whole numbers, whatever type they are stored with."""
    if _is_group(dataset):
        what = "complex weights" if key == "weight" else f"field '{key}' is a group"
        raise NmcError("NMC-G05" if key == "weight" else "NMC-F04", who, what, "train with real weights")
    if dataset.dtype.kind not in "biuf" or dataset.shape is None or not dataset.size:
        raise NmcError(
            "NMC-F04",
            who,
            f"field '{key}' holds {dataset.dtype} {dataset.shape}, expected numbers",
            "export it again",
        )
    values = np.asarray(dataset[()])
    broken = int((~np.isfinite(values)).sum())
    if broken:
        problem = f"field '{key}' has {broken} of {values.size} values that are NaN or infinite"
        raise NmcError("NMC-G04", who, problem, "train again or repair the file", measured=broken, allowed=0)
    with np.errstate(invalid="ignore"):  # what int64 cannot hold differs below
        whole = values.astype(np.int64)
    parts = int((whole != values).sum())
    if parts:
        problem = f"field '{key}' has {parts} of {values.size} values that are no whole numbers"
        raise NmcError("NMC-F04", who, problem, "export with quantized weights (pre_hook_fx)")
    return whole


def _is_group(item: Any) -> bool:
    import h5py

    return isinstance(item, h5py.Group)


def _text(dataset: Any) -> str | None:
    """A string, or the one string of an array."""
    if dataset is None or _is_group(dataset) or dataset.dtype.kind not in "OS" or dataset.size != 1:
        return None
    value = np.asarray(dataset[()]).reshape(-1)[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None
