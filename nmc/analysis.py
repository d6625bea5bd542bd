"""``nmc analyse``: what quantization costs a model, layer by layer, and what its own unrest costs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import api, atomic
from nmc.arrays import checked_labels, numbers, refuse_foreign_labels
from nmc.backends import encode
from nmc.backends.engines import engine as engine_by_name
from nmc.chip import Chip
from nmc.frontend.float_network import run_network
from nmc.frontend.opgraph import OpGraph
from nmc.ir import Conv2d, Dense, Fixed, FloatArray, IntArray, Network, frozen
from nmc.npzfiles import read_samples
from nmc.plotting import new_figure, png
from nmc.reports import fidelity
from nmc.reports.document import Document
from nmc.reports.fidelity import LayerFit

JITTER = 1e-3
"""Relative noise on the float weights: far less than eight bits round away."""
BATCH = 32
WORST = 12
"""Layers in the plot."""


@dataclass(frozen=True)
class Analysis:
    """Result of ``analyse``.

    layers: the worst first. changed: share of samples to which the integers give another class than the
    float network. jitter: share to which the float network itself gives another class when its weights move
    by one part in a thousand; below it, no rounding can be told from chance. float_accuracy, accuracy: of
    float network and integers, None without labels.
    """

    layers: tuple[LayerFit, ...]
    samples: int
    changed: float
    jitter: float
    float_accuracy: float | None
    accuracy: float | None


def analyse(
    model: str | Path | OpGraph,
    chip: str | Chip,
    data: npt.ArrayLike | None,
    x: npt.ArrayLike,
    y: npt.ArrayLike | None = None,
    *,
    seed: int = 0,
    **options: Any,
) -> Analysis:
    """Compare a model's float network with its integers.

    Args:
        model, chip, data, options: as for ``api.compile``.
        x, y: samples in the model's units, and their labels.
        seed: of the noise that ``jitter`` is measured with.

    Raises:
        NmcError: as ``api.compile``; NMC-D02 for samples that are no numbers, and for labels that are not one
            class of the network for each of them.
    """
    samples = numbers("x", x).astype(np.float64)
    labels = checked_labels("labels", y, samples.shape)
    timed, layers, integer = api.quantization_stages(model, chip, data, **options)
    engine = engine_by_name("auto")
    trace = engine.run(integer, encode.encode(integer, samples), integer.steps)
    found = trace.classes
    refuse_foreign_labels("labels", labels, trace.output.shape[1])
    wanted = _classes(timed, samples)

    def share(classes: IntArray, truth: IntArray | None) -> float | None:
        return None if truth is None else float((classes == truth).mean())

    return Analysis(
        fidelity.compare_layers(timed, layers, samples, engine),
        len(samples),
        float((found != wanted).mean()),
        float((_classes(_shaken(timed, seed), samples) != wanted).mean()),
        share(wanted, labels),
        share(found, labels),
    )


def _classes(network: Network, x: FloatArray) -> IntArray:
    """The float network's answers, (N,)."""
    parts = []
    for start in range(0, len(x), BATCH):
        found = run_network(network, x[start : start + BATCH], network.steps)
        rows = [
            found[f"output/{name}"].reshape(len(x[start : start + BATCH]), -1) for name in network.outputs
        ]
        parts.append(np.concatenate(rows, axis=1).argmax(axis=1))
    return np.concatenate(parts)


def _shaken(network: Network, seed: int) -> Network:
    """The network with noise on its trained weights; what shares a tensor goes on to share one."""
    rng = np.random.default_rng(seed)
    made: dict[int, FloatArray] = {}
    projections = []
    for projection in network.projections:
        weight = projection.weight
        if isinstance(projection.synapse, Conv2d | Dense) and not isinstance(weight, Fixed):
            if id(weight) not in made:
                made[id(weight)] = frozen(weight * (1 + JITTER * rng.standard_normal(weight.shape)))
            projection = replace(projection, weight=made[id(weight)])
        projections.append(projection)
    return network.with_(projections=tuple(projections))


def document(result: Analysis, facts: Sequence[tuple[str, str]] = ()) -> Document:
    """For any renderer; schema ``nmc.fidelity/1``."""
    told = [
        ("samples", f"{result.samples:,}"),
        ("classes changed", f"{result.changed:.2%} of them"),
        ("of itself", f"the float network changes {result.jitter:.2%} when its weights move by {JITTER:.1%}"),
    ]
    if result.float_accuracy is not None and result.accuracy is not None:
        lost = 100 * (result.float_accuracy - result.accuracy)
        told.append(
            ("accuracy", f"{result.accuracy:.2%}, float {result.float_accuracy:.2%}, lost {lost:.2f}")
        )
    layers = fidelity.document(result.layers)
    numbers = {name: value for name, value in asdict(result).items() if name != "layers"}
    return Document(layers.kind, {**numbers, **layers.data}, layers.tables, (*facts, *told), layers.pictures)


def analyse_files(
    model: Path, samples: Path, calibration: Path | None, plot: Path | None, force: bool, **options: Any
) -> Document:
    """The command: from paths to a document; ``options`` are those of ``api.compile``, the chip included."""
    if plot is not None:
        inputs = [one for one in (model, samples, calibration) if one is not None]
        atomic.ensure_writable(plot, force=force, inputs=inputs)
    data = read_samples(samples)
    known = None if calibration is None else read_samples(calibration).x
    result = analyse(model, options.pop("chip"), known, data.x, data.y, **options)
    facts = [("model", str(model))]
    if plot is not None:
        atomic.atomic_write(plot, draw(result.layers, plot))
        facts.append(("plot", str(plot)))
    return document(result, facts)


def draw(layers: Sequence[LayerFit], path: Path) -> bytes:
    """A PNG: the worst layers' SNR, all of it and what they lose themselves, and the cosine of their trains.

    Raises:
        NmcError: NMC-E01 without matplotlib.
    """
    shown = [row for row in layers if row.snr_db is not None][:WORST]
    places = np.arange(len(shown))
    figure = new_figure(path, 7, 1.5 + 0.35 * len(shown))
    left, right = figure.subplots(1, 2, sharey=True)
    left.barh(places - 0.2, [row.snr_db for row in shown], 0.4, label="with what came in")
    own = [
        (place, row.own_snr_db)
        for place, row in zip(places, shown, strict=True)
        if row.own_snr_db is not None
    ]
    left.barh([place + 0.2 for place, _ in own], [value for _, value in own], 0.4, label="own rounding")
    left.set(xlabel="SNR, dB", yticks=places, yticklabels=[row.layer for row in shown])
    left.invert_yaxis()
    if shown:
        left.legend(fontsize=7)
    trains = [(place, row.cosine) for place, row in zip(places, shown, strict=True) if row.cosine is not None]
    right.barh([place for place, _ in trains], [value for _, value in trains], 0.6, color="0.6")
    right.set(xlabel="cosine of spike trains", xlim=(0, 1))
    return png(figure)
