"""Where the integers lose what the float network knew: layer by layer, the worst first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from nmc import neuron as spec
from nmc.backends import encode
from nmc.backends.base import Engine
from nmc.errors import InternalError
from nmc.frontend.float_engine import as_trains, current
from nmc.frontend.float_network import run_network
from nmc.ir import (
    Fixed,
    FixedNeuron,
    FloatArray,
    FloatNeuron,
    InputNeuron,
    IntArray,
    Network,
    Population,
    Stage,
)
from nmc.quantize import ranges
from nmc.reports.document import Column, Document, Table
from nmc.reports.figures import Bar, Part, bar_chart

BATCH = 16
BAR = "#4c78a8"


@dataclass(frozen=True)
class LayerFit:
    """How well one population's integers follow its float self, over all samples and steps.

    snr_db: power of the float input current (bias included) over the power of what the integers miss, at
    the best common gain (of the population, or of each channel that has its own threshold); None where
    nothing is missed. own_snr_db: the same without the bias and with the float layer fed by the integer
    network's spikes, so that only the rounding of this layer's weights counts. rates: spikes, or payload,
    per neuron and step; cosine: of the two trains, A.B / (|A||B|); unequal: share of unequal spikes; all
    None for a readout, cosine also where a train is silent. u_seen, u_proven: largest |u| in this run, and
    what the range proof allows for.
    """

    layer: str
    population: str
    snr_db: float | None
    own_snr_db: float | None
    float_rate: float | None
    integer_rate: float | None
    cosine: float | None
    unequal: float | None
    u_seen: int
    u_proven: int


@dataclass
class _Fit:
    """Sums over batches: per channel of the products of wanted and found current, and of the trains."""

    wanted: FloatArray = field(default_factory=lambda: np.zeros(1))
    both: FloatArray = field(default_factory=lambda: np.zeros(1))
    found: FloatArray = field(default_factory=lambda: np.zeros(1))

    def add(self, wanted: FloatArray, found: FloatArray) -> None:
        """Both (N, T or 1, C, ...)."""
        axes = (0, 1, *range(3, wanted.ndim))
        self.wanted = self.wanted + (wanted**2).sum(axis=axes)
        self.both = self.both + (wanted * found).sum(axis=axes)
        self.found = self.found + (found**2).sum(axis=axes)

    def snr(self, per_channel: bool) -> float | None:
        """Decibels left after the best gain; None where nothing is missed."""
        wanted, both, found = self.wanted, self.both, self.found
        if not per_channel:
            wanted, both, found = (x.sum(keepdims=True) for x in (wanted, both, found))
        explained = np.where(found > 0, both**2 / np.where(found > 0, found, 1.0), 0.0)
        power, missed = float(wanted.sum()), float((wanted - explained).sum())
        # What float sums leave over is no loss.
        return None if missed <= 1e-12 * power else 10 * math.log10(power / missed)


@dataclass
class _Sums:
    snr: _Fit = field(default_factory=_Fit)
    own: _Fit = field(default_factory=_Fit)
    float_sum: float = 0.0
    integer_sum: float = 0.0
    products: FloatArray = field(default_factory=lambda: np.zeros(3))
    unequal: int = 0
    events: int = 0
    u_seen: int = 0


def compare_layers(
    float_network: Network, integer_network: Network, x: FloatArray, engine: Engine
) -> tuple[LayerFit, ...]:
    """Run both networks on the same samples and compare every population; the lowest SNR first.

    Args:
        float_network: TIMED, what was quantized.
        integer_network: QUANTIZED or MAPPED, of the same populations.
        x: samples in the model's units, (N, *shape) or (N, T, *shape).
        engine: runs the integers.
    """
    names = [population.name for population in float_network.populations]
    same = names == [population.name for population in integer_network.populations]
    if float_network.stage is not Stage.TIMED or not same:
        raise InternalError("compare_layers expects a TIMED network and its own integers")
    encoded = encode.encode(integer_network, x)
    sums = {population.name: _Sums() for population in float_network.compute}
    for start in range(0, len(x), BATCH):
        part = slice(start, start + BATCH)
        _add_batch(float_network, integer_network, x[part], encoded[part], engine, sums)
    proven = {item.population: item for item in ranges.prove(integer_network)}
    rows = [
        _row(
            integer_network[name],
            one,
            max(map(abs, proven[name].u)),
            _own_scales(float_network, integer_network, name),
        )
        for name, one in sums.items()
    ]
    # A stable sort: layers without loss stay in the network's order.
    return tuple(sorted(rows, key=lambda row: math.inf if row.snr_db is None else round(row.snr_db, 3)))


def _add_batch(
    float_network: Network,
    integer_network: Network,
    x: FloatArray,
    encoded: IntArray,
    engine: Engine,
    sums: dict[str, _Sums],
) -> None:
    steps = float_network.steps
    names = list(sums)
    wanted = run_network(float_network, x, steps, [*names, *(f"current/{name}" for name in names)])
    trace = engine.run(integer_network, encoded, steps, names)
    (source,) = integer_network.inputs
    assert isinstance(source.neuron, InputNeuron)
    payloads = {name: trace.spikes[name].astype(np.float64) for name in names}
    payloads[source.name] = as_trains(encoded, source.shape, steps, source.label)
    scale = source.neuron.scale
    for name, one in sums.items():
        population, float_one = integer_network[name], float_network[name]
        shape = (len(x), -1, *population.shape)
        found = _host_current(integer_network, population, encoded) + sum(
            current(p.synapse, p.integer_weight.astype(np.float64), payloads[p.source]).reshape(shape)
            * float(1 << spec.WEIGHT_SHIFT)
            for p in integer_network.incoming(name)
            if not p.on_host
        )
        own = sum(
            current(p.synapse, np.asarray(p.weight), payloads[p.source]).reshape(shape)
            * (scale if p.source == source.name else 1.0)
            for p in float_network.incoming(name)
        )
        full = (len(x), steps, *population.shape)
        one.own.add(np.broadcast_to(np.asarray(own), full), np.broadcast_to(found, full))
        offset = 0.0 if float_one.bias is None else np.asarray(float_one.bias)
        drive = np.broadcast_to(found + _bias(population), full)
        one.snr.add(wanted[f"current/{name}"] + offset, drive)
        a, b = wanted[name], payloads[name]
        one.float_sum += float(a.sum())
        one.integer_sum += float(b.sum())
        one.products = one.products + np.asarray([(a * b).sum(), (a * a).sum(), (b * b).sum()])
        one.unequal += int((a != b).sum())
        one.events += a.size
        one.u_seen = max(one.u_seen, int(np.abs(trace.u[name]).max(initial=0)))


def _host_current(network: Network, population: Population, x: IntArray) -> FloatArray:
    """What the host writes beyond the bias, v units, broadcastable to (N, T, *shape)."""
    if not encode.has_host_input(network, population):
        return np.zeros(())
    assert isinstance(population.bias, Fixed)
    written = encode.host_mantissas(network, population, x) - population.bias.mant
    return np.asarray((written << population.bias.exp)[:, None].astype(np.float64))


def _bias(population: Population) -> IntArray:
    """Bias current in v units, broadcastable to (*shape)."""
    assert population.bias is None or isinstance(population.bias, Fixed)
    return spec.bias_value(population.bias)


def _own_scales(float_network: Network, integer_network: Network, name: str) -> bool:
    """Whether a population's channels have scales of their own: integer over float thresholds differ.

    A strict threshold is up to one mantissa below the scaled one, so equal scales differ by that much.
    """
    before, after = float_network[name].neuron, integer_network[name].neuron
    if not (isinstance(before, FloatNeuron) and isinstance(after, FixedNeuron)):
        return False
    if before.threshold is None or after.vth is None or not np.all(before.threshold):
        return False
    low, high = after.vth.mant / before.threshold, (after.vth.mant + 1) / before.threshold
    return bool(np.max(low) > np.min(high))


def _row(population: Population, sums: _Sums, u_proven: int, per_channel: bool) -> LayerFit:
    neuron = population.neuron
    vth = neuron.vth if isinstance(neuron, FixedNeuron) else None
    silent = isinstance(neuron, FixedNeuron) and vth is None
    product, a, b = (float(value) for value in sums.products)
    return LayerFit(
        layer=population.label,
        population=population.name,
        snr_db=sums.snr.snr(per_channel),
        own_snr_db=sums.own.snr(per_channel),
        float_rate=None if silent else sums.float_sum / sums.events,
        integer_rate=None if silent else sums.integer_sum / sums.events,
        cosine=None if silent or a * b == 0 else product / math.sqrt(a * b),
        unequal=None if silent else sums.unequal / sums.events,
        u_seen=sums.u_seen,
        u_proven=u_proven,
    )


def document(rows: Sequence[LayerFit], facts: Sequence[tuple[str, str]] = ()) -> Document:
    """For any renderer; schema ``nmc.fidelity/1``."""

    def texts(name: str, form: str) -> tuple[str, ...]:
        values = [getattr(row, name) for row in rows]
        return tuple("-" if value is None else format(value, form) for value in values)

    loud = tuple("exact" if row.snr_db is None else f"{row.snr_db:.1f}" for row in rows)
    own = tuple("exact" if row.own_snr_db is None else f"{row.own_snr_db:.1f}" for row in rows)
    columns = (
        Column("layer", tuple(row.layer for row in rows)),
        Column("SNR dB", loud, numeric=True),
        Column("own SNR dB", own, numeric=True),
        Column("cosine", texts("cosine", ".4f"), numeric=True),
        Column("unequal", texts("unequal", ".2%"), numeric=True),
        Column("float rate", texts("float_rate", ".4f"), numeric=True, rank=1),
        Column("integer rate", texts("integer_rate", ".4f"), numeric=True, rank=1),
        Column("u seen", texts("u_seen", ","), numeric=True, rank=2),
        Column("u proven", texts("u_proven", ","), numeric=True, rank=2),
    )
    members = {"layers": [asdict(row) for row in rows]}
    return Document("fidelity", members, (Table("", columns),), tuple(facts), _pictures(rows))


def _pictures(rows: Sequence[LayerFit]) -> tuple[str, ...]:
    """Signal to noise of every layer that loses something; below 0 dB there is no bar."""
    bars = [
        Bar(row.layer, (Part(0.0, max(row.snr_db, 0.0), BAR, row.layer),), f"{row.snr_db:.1f} dB")
        for row in rows
        if row.snr_db is not None
    ]
    return tuple(one for one in [bar_chart("Signal to noise, the worst layers first", bars, ())] if one)
