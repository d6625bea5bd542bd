"""A report as data: one row per population, a total that is exactly their sum, and what was assumed.

Integers are sums over all samples and steps of the run; energies are joules per inference (sample).
Renderers only format what stands here; ``layout`` says how.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Energy:
    """Joules per inference, split by what they were spent on; hop: messages and their way between cores.

    Every column of a report adds up to its total to the last bit (``add``), and so does every row
    (``of``); only in the total row can the terms miss total_J by the last bit.
    """

    synapse: float
    update: float
    spike: float
    hop: float
    total: float

    @classmethod
    def of(cls, synapse: float, update: float, spike: float, hop: float = 0.0) -> Energy:
        """One population's terms; the total is their correctly rounded sum."""
        return cls(synapse, update, spike, hop, math.fsum((synapse, update, spike, hop)))

    @classmethod
    def add(cls, energies: Sequence[Energy]) -> Energy:
        """Term by term, each sum correctly rounded."""
        return cls(
            math.fsum(one.synapse for one in energies),
            math.fsum(one.update for one in energies),
            math.fsum(one.spike for one in energies),
            math.fsum(one.hop for one in energies),
            math.fsum(one.total for one in energies),
        )


@dataclass(frozen=True)
class Activity:
    """What a population did in a run, summed over samples and steps.

    spikes, grades: events sent and sum of their payloads. synops, graded_synops: events and payloads
    that arrived over the population's incoming synapses. updates: membrane updates. host_macs:
    multiply-accumulates done by the host for this population. firing_rate: spikes per neuron, step and
    sample; None where there are no neurons (inputs). energy_range: joules over all sets of constants.
    """

    spikes: int
    grades: int
    synops: int
    graded_synops: int
    updates: int
    host_macs: int
    firing_rate: float | None
    energy: Energy
    energy_range: Range


@dataclass(frozen=True)
class Row:
    """One population, under the user's layer name.

    neurons: on the chip; inputs have none. parameters: distinct stored weights and biases, a tensor
    shared by several projections counted where it comes first. synapses: connections without sharing,
    borders counted exactly. cores, memory_bits: None before mapping or where the chip file does not
    price memory. latency_steps: steps from the input until the population sees a sample's first data;
    for the total, until the last step of the sample has left the last population. wait_steps: the longest
    delay of a path into the population, which waits for a longer path. parameter_bits: of the parameters,
    each once, as quantized; None before. It is the model's footprint, memory_bits the mapped one.
    """

    name: str
    population: str
    kind: str
    shape: tuple[int, ...]
    neurons: int
    parameters: int
    synapses: int
    cores: int | None
    memory_bits: int | None
    latency_steps: int | None
    wait_steps: int | None
    activity: Activity | None
    parameter_bits: int | None = None


@dataclass(frozen=True)
class Pace:
    """An estimate with a set's times per event.

    step: seconds, shortest and longest mean step, as barriers have a range. busiest: layers on the core that
    all wait for. latency: seconds from the first input step until the last step of the sample has left the
    last population. interval: seconds from one sample to the next. static: joules of static power per
    sample, None where the set has none.
    """

    step: Range
    busiest: str
    latency: Range
    interval: Range
    static: Range | None


@dataclass(frozen=True)
class Twin:
    """Per inference, joules.

    first_macs: multiply-accumulates of the layers that read analog frames, once; 0 for spike trains.
    synops: of all other layers, all steps. once, every_step: the literature's formula, with the first layer
    once and in every step. macs: multiply-accumulates of the same network without spikes, one pass.
    fp32, int8: arithmetic of that pass.
    """

    constants: str
    source: str
    first_macs: int
    synops: float
    once: float
    every_step: float
    macs: int
    fp32: float
    int8: float


@dataclass(frozen=True)
class Estimate:
    """The run priced with one set of constants.

    device: the hardware that they belong to. basis: how they were obtained; known_error: how far off they are
    known to be. low: with neurons that do not fire taken for idle; energy: with all taken for active. The
    truth lies between them. pace: how long a step takes, and static energy; None where the set has no times.
    """

    constants: str
    device: str
    basis: str
    source: str
    known_error: str
    low: Energy
    energy: Energy
    pace: Pace | None = None

    @property
    def range(self) -> Range:
        """Joules per inference of events, at least and at most; static power comes on top (``pace``)."""
        return self.low.total, self.energy.total


@dataclass(frozen=True)
class Peak:
    """The core that holds most of a resource: which layer lies there, how much it takes of what is there."""

    resource: str
    layer: str
    core: int
    used: int
    allowed: int


@dataclass(frozen=True)
class Accuracy:
    """Share of samples whose class was right; ``float_accuracy`` of the float model on the same samples."""

    samples: int
    integer_accuracy: float
    float_accuracy: float | None = None


@dataclass(frozen=True)
class BlockRates:
    """Rates of a residual block O = A + S, per neuron and step.

    branch: spikes of A; output: events of O; payload: mean value of O.
    """

    block: str
    branch: float
    output: float
    payload: float


@dataclass(frozen=True)
class TrainStatistics:
    """Spike trains of a recorded layer; a train is one neuron's spikes in one sample (``reports.trains``).

    trains: neurons x samples. silent, always: shares that never fire, and that fire in every step. rate:
    spikes per train and step. first_step: mean step of the first spike, from 0. interval_steps,
    interval_cv: mean interval between two spikes of a train, and standard deviation over mean. fano:
    variance over mean of the spikes per train. None where there is no spike, or no interval.
    """

    layer: str
    trains: int
    silent: float
    always: float
    rate: float
    first_step: float | None
    interval_steps: float | None
    interval_cv: float | None
    fano: float | None


@dataclass(frozen=True)
class VerifiedRun:
    """One comparison of two engines, bit by bit.

    samples, steps: N and T. compared, mismatches: entries of spikes, u and v over all populations.
    input_sha256: of the encoded samples. trace_sha256: of all that ``engine`` computed, so that the run can
    be repeated elsewhere and compared (``backends.compare``). versions: (package, version), sorted.
    """

    engine: str
    against: str
    samples: int
    steps: int
    compared: int
    mismatches: int
    counts_equal: bool
    input_sha256: str
    trace_sha256: str
    versions: tuple[tuple[str, str], ...]

    @property
    def passed(self) -> bool:
        return self.mismatches == 0 and self.counts_equal


@dataclass(frozen=True)
class Report:
    """Everything that a compile (and a run) has to say about itself.

    samples: of the run; None when nothing was run, then no row has an activity and there is no estimate.
    cores_available: None where nothing limits them. peaks: one per limited resource. interval_steps: from one
    sample to the next; 0 before there are levels.
    estimates: the set that prices the rows first, then the chip's other sets. others: the same run on other
    hardware. twin: the literature's formula, and the network without spikes. verified: what ``nmc verify``
    compared. blocks: of residual blocks whose sum is a relay. trains: of the layers that the run recorded.
    """

    network: str
    chip: str
    version: str
    profile: str
    steps: int
    samples: int | None
    rows: tuple[Row, ...]
    total: Row
    cores_available: int | None
    peaks: tuple[Peak, ...]
    estimates: tuple[Estimate, ...]
    others: tuple[Estimate, ...]
    twin: Twin | None
    accuracy: Accuracy | None
    assumptions: tuple[str, ...]
    unpriced: tuple[str, ...]
    notes: tuple[str, ...]
    verified: tuple[VerifiedRun, ...] = ()
    interval_steps: int = 0
    blocks: tuple[BlockRates, ...] = ()
    trains: tuple[TrainStatistics, ...] = ()

    @property
    def energy_range(self) -> Range | None:
        """Joules per inference over all sets of the chip, least and most; None where nothing is priced."""
        ends = [end for one in self.estimates for end in one.range]
        return (min(ends), max(ends)) if ends and max(ends) > 0 else None

    def to_text(self, width: int = 120) -> str:
        """For a terminal of that width."""
        from nmc.reports import layout, render_text

        return render_text.render(layout.document(self), width)

    def to_json(self) -> str:
        """One JSON document, schema ``nmc.report/1``."""
        from nmc.reports import layout, render_json

        return render_json.render(layout.document(self))

    def to_markdown(self) -> str:
        """For a pull request or a job summary."""
        from nmc.reports import layout, render_markdown

        return render_markdown.render(layout.document(self))

    def scalars(self, prefix: str = "nmc/") -> dict[str, float]:
        """Flat numbers for experiment trackers: ``nmc/energy_J``, ``nmc/rate/<layer>`` and the like.

        What is not known is left out; the energy is that of the set that prices the rows.
        """
        total, activity = self.total, self.total.activity
        found = {
            "accuracy": None if self.accuracy is None else self.accuracy.integer_accuracy,
            "energy_J": None if activity is None or not self.estimates else activity.energy.total,
            "firing_rate": None if activity is None else activity.firing_rate,
            "cores": total.cores,
            "memory_bits": total.memory_bits,
            "latency_steps": total.latency_steps,
        }
        for row in self.rows:
            if row.activity is not None:
                found[f"rate/{row.name}"] = row.activity.firing_rate
        return {f"{prefix}{name}": float(value) for name, value in found.items() if value is not None}

    def _repr_html_(self) -> str:
        from nmc.reports import layout, render_html

        return render_html.render(layout.document(self))


def _sum(values: Sequence[int | None]) -> int | None:
    """The sum; None when nothing is known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def total_activity(rows: Sequence[Row], steps: int, samples: int) -> Activity:
    """The sum of the rows' activities; the rate is that of the neurons, without the inputs' events."""
    active = [row.activity for row in rows if row.activity is not None]
    neurons = sum(row.neurons for row in rows)
    fired = sum(row.activity.spikes for row in rows if row.activity is not None and row.neurons)
    return Activity(
        spikes=sum(one.spikes for one in active),
        grades=sum(one.grades for one in active),
        synops=sum(one.synops for one in active),
        graded_synops=sum(one.graded_synops for one in active),
        updates=sum(one.updates for one in active),
        host_macs=sum(one.host_macs for one in active),
        firing_rate=fired / (neurons * steps * samples) if neurons else None,
        energy=Energy.add([one.energy for one in active]),
        energy_range=(
            math.fsum(one.energy_range[0] for one in active),
            math.fsum(one.energy_range[1] for one in active),
        ),
    )


def total_row(rows: Sequence[Row], steps: int, samples: int | None) -> Row:
    """The row below the rows: sums, and the latency of the last step of the deepest population."""
    levels = [row.latency_steps for row in rows if row.latency_steps is not None]
    return Row(
        name="total",
        population="",
        kind="",
        shape=(),
        neurons=sum(row.neurons for row in rows),
        parameters=sum(row.parameters for row in rows),
        synapses=sum(row.synapses for row in rows),
        cores=_sum([row.cores for row in rows]),
        memory_bits=_sum([row.memory_bits for row in rows]),
        latency_steps=max(levels) + steps if levels else None,
        wait_steps=None,
        activity=None if samples is None else total_activity(rows, steps, samples),
        parameter_bits=_sum([row.parameter_bits for row in rows]),
    )
