"""Every construct that nmc knows, each as the smallest network that shows it.

A feature is a FLOAT network whose integer form is exact, so that ``oracle`` (pure Python, no shared code)
says what must come out. ``FEATURES`` is what ``conformance`` runs on every engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import gen
import numpy as np

from nmc import synapse, timing
from nmc.chip import load_chip
from nmc.frontend import opgraph as og
from nmc.frontend import padding
from nmc.frontend.neuron_fold import fold_neuron
from nmc.ir import (
    Compare,
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    FloatNeuron,
    GradedRelay,
    Identity,
    InputNeuron,
    IntArray,
    Mapping,
    Network,
    Population,
    Projection,
    Reset,
    Stage,
    SumPool2d,
    Synapse,
    Tile,
    frozen,
)
from nmc.partition.parts import sum_in_parts

STEPS, SAMPLES = 5, 2


def neuron(threshold: float = 12.0, **fields: object) -> FloatNeuron:
    return FloatNeuron(frozen(threshold, np.float64), **fields)  # type: ignore[arg-type]


IF = neuron()
GATE = {"keep_v": 0.0}


class Sketch:
    """A network under construction. Weights are even and come from one generator."""

    def __init__(self, *shape: int, seed: int = 1, **fields: object) -> None:
        self.rng = np.random.default_rng(seed)
        source = InputNeuron(fields.pop("encoding", Encoding.SPIKES), **fields)  # type: ignore[arg-type]
        payload = max(abs(source.lowest), source.highest)
        self.populations = {"in": Population("in", shape, source, max_payload=payload)}
        self.projections: list[Projection] = []
        self.outputs: tuple[str, ...] = ()

    def weights(self, *shape: int) -> np.ndarray:
        return 2.0 * self.rng.integers(-4, 7, shape)

    def project(
        self, source: str, target: str, op: Synapse, weight: np.ndarray | float, lag: int = 0
    ) -> None:
        on_host = getattr(self.populations[source].neuron, "encoding", None) is Encoding.CURRENT
        array = weight if isinstance(weight, np.ndarray) and not weight.flags.writeable else frozen(weight)
        name = f"{source}-{target}-{len(self.projections)}"
        self.projections.append(
            Projection(name, source, target, op, array.astype(np.float64), on_host=on_host, lag=lag)
        )

    def add(
        self,
        name: str,
        source: str,
        op: Synapse,
        weight: np.ndarray | float,
        cell: FloatNeuron | GradedRelay = IF,
        bias: object = None,
        payload: int = 1,
    ) -> str:
        start = self.populations[source]
        shape = synapse.output_shape(op, np.shape(weight), start.shape, name)
        offset = None if bias is None else frozen(bias, np.float64)
        self.populations[name] = Population(name, shape, cell, offset, payload, origin=(f"layer.{name}",))
        self.project(source, name, op, weight)
        return name

    def conv(
        self, name: str, source: str, channels: int, kernel: tuple[int, int] = (3, 3), **more: object
    ) -> str:
        """A convolution that keeps the map, unless told otherwise; ``cell`` and ``bias`` go to ``add``."""
        rest = {key: more.pop(key) for key in ("cell", "bias") if key in more}
        more.setdefault("padding", (kernel[0] // 2, kernel[1] // 2))
        op = Conv2d(**more)  # type: ignore[arg-type]
        weight = self.weights(channels, self.populations[source].shape[0] // op.groups, *kernel)
        return self.add(name, source, op, weight, **rest)  # type: ignore[arg-type]

    def dense(self, name: str, source: str, out: int = 3, **more: object) -> str:
        weight = self.weights(out, self.populations[source].size)
        return self.add(name, source, Dense(), weight, **more)  # type: ignore[arg-type]

    def network(self, readout: str = "count") -> Network:
        outputs = self.outputs or (list(self.populations)[-1],)
        populations = tuple(self.populations.values())
        return Network(
            "feature", Stage.FLOAT, populations, tuple(self.projections), outputs, STEPS, readout=readout
        )


Finish = Callable[[Network], Network]


def as_it_is(network: Network) -> Network:
    return network


def halved(network: Network) -> Network:
    """Every population on two cores, cut across its longest axis: a mapping for engines that run one."""
    tiles: list[Tile] = []
    for population in network.compute:
        axis = int(np.argmax(population.shape))
        size = population.shape[axis]
        for start, stop in ((0, size // 2), (size // 2, size)):
            if start < stop:
                ranges = [(0, n) for n in population.shape]
                ranges[axis] = (start, stop)
                tiles.append(Tile(population.name, tuple(ranges), len(tiles)))
    return network.with_(stage=Stage.MAPPED, mapping=Mapping("none", tuple(tiles)))


@dataclass(frozen=True)
class Feature:
    """free: what it means. finish: changes the QUANTIZED network to what is shown.

    refused: {engine: code} where the engine must refuse it, by design.
    """

    area: str
    name: str
    free: Callable[[], Network]
    finish: Finish = as_it_is
    refused: tuple[tuple[str, str], ...] = ()
    max_delay: int = 62

    def network(self) -> Network:
        return halved(self.finish(gen.quantize(timing.balance(self.free(), self.max_delay))))

    def samples(self, network: Network) -> IntArray:
        """Half of the inputs active, over the input's whole range."""
        (population,) = network.inputs
        source = population.neuron
        assert isinstance(source, InputNeuron)
        lead = (SAMPLES, STEPS) if source.encoding is Encoding.SPIKES else (SAMPLES,)
        rng = np.random.default_rng(3)
        shape = (*lead, *population.shape)
        return rng.integers(source.lowest, source.highest + 1, shape) * (rng.random(shape) < 0.7)


def one_neuron(cell: FloatNeuron, bias: object = None, readout: str = "count") -> Callable[[], Network]:
    """A convolution onto the neuron in question, and a dense layer that reads its spikes."""

    def build() -> Network:
        net = Sketch(1, 3, 3)
        net.conv("cell", "in", 2, cell=cell, bias=bias)
        if cell.threshold is not None:
            net.dense("out", "cell")
        return net.network(readout)

    return build


def one_synapse(
    op: Synapse, weight: tuple[int, ...], source: tuple[int, ...] = (2, 4, 5), theta: float = 12.0
) -> Callable[[], Network]:
    def build() -> Network:
        net = Sketch(*source)
        values = net.weights(*weight) if weight else 4.0
        net.add("cell", "in", op, values, neuron(theta))
        return net.network()

    return build


def one_sided() -> Network:
    """Padding (0, 1) of the rows and (1, 2) of the columns, as the front end states it."""
    net = Sketch(2, 4, 5)
    equal = padding.same(net.weights(2, 2, 2, 4), (1, 1))
    assert equal is not None
    weight, pads = equal
    net.add("cell", "in", Conv2d(padding=pads), weight)
    return net.network()


def joined(kind: str) -> Callable[[], Network]:
    """A residual block after a stem; the shortcut is one or two steps shorter than the body."""

    def build() -> Network:
        net = Sketch(1, 4, 4)
        net.conv("stem", "in", 2)
        net.conv("a", "stem", 2)
        net.conv("b", "a", 2)
        if kind == "vanilla":
            net.project("stem", "b", Identity(), 6.0)
            last = "b"
        elif kind == "projection shortcut":
            net.project("stem", "b", Conv2d(), net.weights(2, 2, 1, 1))
            last = "b"
        elif kind == "relay":
            last = net.add("sum", "b", Identity(), 1.0, GradedRelay(), payload=2)
            net.project("stem", "sum", Identity(), 1.0)
        elif kind == "distribute":
            shared = frozen(net.weights(3, 32), np.float64)
            net.add("out", "b", Dense(), shared)
            net.project("stem", "out", Dense(), shared)
            return net.network()
        elif kind == "MS":
            net.project("in", "b", Conv2d(), net.weights(2, 1, 1, 1))
            net.project("stem", "b", Identity(), 4.0)
            net.project("a", "b", Identity(), 2.0)
            last = "b"
        else:
            theta, first = {"AND": (4.0, 2.0), "OR": (2.0, 2.0), "IAND": (2.0, -2.0)}[kind]
            last = net.add("gate", "b", Identity(), first, neuron(theta, **GATE))
            net.project("stem", "gate", Identity(), 2.0)
        net.dense("out", last)
        return net.network()

    return build


def loops(bias: object = None) -> Callable[[], Network]:
    """A population that inhibits itself, and feeds its source back two steps later."""

    def build() -> Network:
        net = Sketch(1, 4, 4)
        net.conv("stem", "in", 2, bias=bias)
        net.conv("a", "stem", 2)
        net.project("a", "a", Identity(), -2.0, lag=1)
        net.project("a", "stem", Conv2d(padding=(1, 1)), net.weights(2, 2, 3, 3), lag=2)
        net.dense("out", "a")
        return net.network()

    return build


def soft_reset(keep_v: float) -> Callable[[], Network]:
    """Reset by subtraction with a start value and a bias per channel."""
    cell = neuron(16.0, keep_v=keep_v, reset=Reset.SUBTRACT, v0=frozen(8.0, np.float64))
    return one_neuron(cell, [[[6.0]], [[-2.0]]])


def looped_reset(keep_v: float, fields: bool = True) -> Callable[[], Network]:
    """The same, as chips that reset to 0 have it (``quantize/reset_loops.py``): the membrane in u, the start
    value as bias, a synapse onto itself, and a clock for the bias.

    fields: with what the chip's fields make of it: nothing keeps all or nothing, and without decay the start
    value is half a unit lower, with the strict threshold of ``>=`` one unit lower.
    """

    def build() -> Network:
        soft, whole = soft_reset(keep_v)(), fields and keep_v == 1
        start, theta, compare = (7.5, 15.0, Compare.GREATER) if whole else (8.0, 16.0, Compare.GREATER_EQUAL)
        rest = 1 / 4096 if fields else 0.0
        cell = neuron(theta, keep_u=keep_v - whole / 4096, keep_v=rest, compare=compare)
        clock = Population("cell.clock", (1, 3, 3), neuron(0.5, keep_v=rest), frozen(1.0, np.float64))
        current = (np.array([6.0, -2.0]) - (1 - keep_v) * 8.0).reshape(2, 1, 1, 1)
        loops = (
            Projection("cell.clock.out", clock.name, "cell", Conv2d(), frozen(current)),
            Projection("cell.reset", "cell", "cell", Identity(), frozen(-16.0 * keep_v), lag=1),
        )
        source, old, *others = soft.populations
        populations = (source, clock, replace(old, neuron=cell, bias=frozen(start)), *others)
        return soft.with_(populations=populations, projections=(*soft.projections, *loops))

    return build


def concatenation() -> Network:
    """Two branches; the next layer holds the slice of its weights that belongs to each."""
    net = Sketch(1, 4, 4)
    net.conv("stem", "in", 2)
    net.conv("left", "stem", 2, (1, 1))
    net.conv("right", "stem", 3)
    net.conv("right2", "right", 3)
    whole = net.weights(2, 5, 3, 3)
    net.add("next", "left", Conv2d(padding=(1, 1)), whole[:, :2])
    net.project("right2", "next", Conv2d(padding=(1, 1)), whole[:, 2:])
    return net.network()


def pooled(op: SumPool2d, theta: float, weight: float = 2.0, **fields: float) -> Callable[[], Network]:
    def build() -> Network:
        net = Sketch(1, 4, 4)
        net.conv("stem", "in", 3)
        net.add("pool", "stem", op, weight, neuron(theta, **fields))
        net.dense("out", "pool")
        return net.network()

    return build


def inputs(source: Callable[[], Sketch], bias: object = None) -> Callable[[], Network]:
    def build() -> Network:
        net = source()
        net.conv("stem", "in", 2, bias=bias)
        net.dense("out", "stem")
        return net.network()

    return build


def delayed(kind: str) -> Callable[[], Network]:
    def build() -> Network:
        net = Sketch(2, 3, 4)
        if kind == "identity":
            net.add("late", "in", Identity(), 8.0, IF, 2.0)
        elif kind == "dense":
            net.dense("late", "in", 4, bias=2.0)
        elif kind == "pool":
            net.add("late", "in", SumPool2d((3, 2), (1, 1)), 4.0, IF, 2.0)
        else:
            net.conv("late", "in", 2, bias=2.0)
        net.dense("out", "late")
        return net.network()

    return build


def by(delay: int) -> Finish:
    """The first projection takes ``delay`` steps longer, and everything after it starts later."""

    def finish(network: Network) -> Network:
        first, *rest = network.projections
        populations = tuple(
            p if p.is_input else replace(p, level=p.time + delay) for p in network.populations
        )
        return network.with_(populations=populations, projections=(replace(first, delay=delay), *rest))

    return finish


def past_a_relay(network: Network) -> Network:
    """62 steps to a relay, 6 more from there: what ``timing.balance`` makes of a distance of 69."""
    first, *rest = network.projections
    source, target = network[first.source], network[first.target]
    threshold = Fixed(np.array(0), 6, 17, signed=False)
    full = Fixed(np.array(4095), -12, 12, signed=False)
    relay = Population(f"{source.name}.delay1", source.shape, FixedNeuron(threshold, full, full), level=63)
    to_relay = Projection(
        "line", source.name, relay.name, Identity(), Fixed(np.array(1), 1, 8, signed=True), delay=62
    )
    later = by(69)(network)
    inserted = [p for one in later.populations for p in ((relay, one) if one.name == target.name else (one,))]
    moved = replace(first, source=relay.name, delay=6)
    return later.with_(populations=tuple(inserted), projections=(to_relay, moved, *rest))


def whole_weights(signed: bool) -> tuple[Callable[[], Network], Finish]:
    """Weights on a grid of one weight unit instead of two."""

    def free() -> Network:
        network = one_synapse(Conv2d(), (2, 2, 3, 3))()
        (first,) = network.projections
        weight = first.weight + 1.0 if signed else np.abs(first.weight) + 1.0
        return network.with_(projections=(replace(first, weight=frozen(weight)),))

    def finish(network: Network) -> Network:
        (first,), (stated,) = network.projections, free().projections
        weight = Fixed(np.asarray(stated.weight).astype(np.int64), 0, 8, signed)
        return network.with_(projections=(replace(first, weight=weight),))

    return free, finish


def with_host_bias(network: Network) -> Network:
    """One bias mantissa of exponent 6 is one weight unit: what the host adds is exact."""
    fed = {p.target for p in network.projections if p.on_host}
    changed = {}
    for name in fed:
        population = network[name]
        bias = population.bias
        mant = np.zeros((), np.int64) if bias is None else (bias.mant << bias.exp) >> 6
        changed[name] = replace(population, bias=Fixed(mant, 6, 13, signed=True))
    return network.with_(populations=network.map_populations(changed))


def starts(value: float) -> tuple[Callable[[], Network], Finish]:
    """v starts at ``value`` weight units: what a reset to another value becomes."""
    free = one_neuron(neuron(v0=frozen(value, np.float64)))

    def finish(network: Network) -> Network:
        cell = network["cell"]
        v0 = frozen(value * 64, np.int64)
        changed = replace(cell, neuron=replace(cell.neuron, v0=v0))
        return network.with_(populations=network.map_populations({"cell": changed}))

    return free, finish


def leaks_elsewhere() -> Network:
    """Reset to -2, leak towards 4: the front end measures v from the reset, and the leak becomes a bias."""
    stated = og.Neuron(9.0, keep_v=2048 / 4096, v_leak=4.0, v_reset=-2.0, v0=-2.0)
    folded = fold_neuron("cell", stated, None, (2, 3, 3), (2, 3, 3))
    assert folded.bias is not None
    return one_neuron(folded.neuron, folded.bias)()


def silent_cell(**fields: float) -> FloatNeuron:
    return FloatNeuron(None, **fields)


def unread(network: Network) -> Network:
    """``gen.quantize`` knows no readouts: take the threshold out again."""
    cell = network["cell"]
    changed = replace(cell, neuron=replace(cell.neuron, vth=None))
    return network.with_(populations=network.map_populations({"cell": changed}))


def readout(bias: object = None, **fields: float) -> tuple[Callable[[], Network], Finish]:
    def free() -> Network:
        network = one_neuron(neuron(131071.0, **fields), bias)().with_(readout="potential", outputs=("cell",))
        kept = tuple(p for p in network.populations if p.name != "out")
        return network.with_(populations=kept, projections=network.projections[:1])

    return free, unread


def two_outputs() -> Network:
    net = Sketch(1, 3, 3)
    net.conv("stem", "in", 2)
    net.dense("first", "stem")
    net.dense("second", "stem", 2)
    net.outputs = ("first", "second")
    return net.network()


def in_parts(network: Network) -> Network:
    """A layer on 40 neurons as on cores that hold 31 lists: two relays for every neuron."""
    split = sum_in_parts(network, replace(load_chip("loihi2"), synapse_bits=31 * 64))
    assert split is not network
    return split


def relay_of_relays() -> Network:
    net = Sketch(1, 4, 4)
    net.conv("a", "in", 2)
    net.conv("b", "a", 2)
    net.add("sum", "b", Identity(), 1.0, GradedRelay(), payload=2)
    net.project("a", "sum", Identity(), 1.0)
    net.conv("c", "sum", 2, cell=neuron(40.0))
    net.add("more", "c", Identity(), 1.0, GradedRelay(), payload=3)
    net.project("sum", "more", Identity(), 1.0)
    net.dense("out", "more")
    return net.network()


def frame(lowest: int = 0, highest: int = 5, encoding: Encoding = Encoding.GRADED) -> Callable[[], Sketch]:
    return lambda: Sketch(1, 4, 4, encoding=encoding, lowest=lowest, highest=highest)


_GE, _GT = Compare.GREATER_EQUAL, Compare.GREATER
_PER_CHANNEL = FloatNeuron(frozen([[[6.0]], [[20.0]]], np.float64))
_PER_NEURON = FloatNeuron(frozen(np.arange(2, 38, 2).reshape(2, 3, 3), np.float64))
_BIASES = [[[3.0]], [[-2.0]]]
_READ, _UNREAD = readout()
_LEAKY, _ = readout(keep_v=3072 / 4096)
_FILTERED, _ = readout(keep_u=1024 / 4096, keep_v=3000 / 4096)
_UP, _START_UP = starts(5.0)
_DOWN, _START_DOWN = starts(-7.0)
_UNSIGNED, _AS_UNSIGNED = whole_weights(signed=False)
_ODD, _AS_ODD = whole_weights(signed=True)
_LAVA = ("lava", "lava-inprocess", "lava-tiles")

FEATURES: tuple[Feature, ...] = (
    Feature("neuron", "IF", one_neuron(IF)),
    Feature("neuron", "LIF", one_neuron(neuron(keep_v=2048 / 4096))),
    Feature("neuron", "CUBA", one_neuron(neuron(keep_u=1024 / 4096, keep_v=3000 / 4096))),
    Feature(
        "neuron",
        "CUBA, reset by subtraction",
        one_neuron(neuron(9.0, keep_u=1024 / 4096, keep_v=3000 / 4096, reset=Reset.SUBTRACT)),
    ),
    Feature("neuron", "synaptic filter without leak", one_neuron(neuron(keep_u=3000 / 4096))),
    Feature("neuron", "memoryless", one_neuron(neuron(40.0, **GATE))),
    Feature("neuron", "graded relay", joined("relay")),
    Feature("neuron", "threshold per channel", one_neuron(_PER_CHANNEL)),
    Feature("neuron", "threshold per neuron", one_neuron(_PER_NEURON)),
    Feature("neuron", "bias on the weight grid", one_neuron(IF, _BIASES)),
    Feature("neuron", "bias off the weight grid", one_neuron(neuron(7.0), 1.0 + 17 / 64)),
    Feature("neuron", "bias of exponent 7", one_neuron(neuron(9000.0), 7000.0)),
    Feature("reset", "to zero", one_neuron(neuron(9.0, reset=Reset.ZERO))),
    Feature("reset", "by subtraction", one_neuron(neuron(9.0, reset=Reset.SUBTRACT), 3.0)),
    Feature(
        "reset", "by subtraction, leaky", one_neuron(neuron(9.0, reset=Reset.SUBTRACT, keep_v=3500 / 4096))
    ),
    Feature("reset", "to a value, leak to another", leaks_elsewhere),
    Feature("reset", "to a value below the start", _UP, _START_UP),
    Feature("reset", "to a value above the start", _DOWN, _START_DOWN),
    Feature("comparison", "v >= threshold", one_neuron(neuron(8.0, compare=_GE))),
    Feature("comparison", "v > threshold", one_neuron(neuron(8.0, compare=_GT))),
    Feature("comparison", "v >= threshold, off the grid", one_neuron(neuron(8.0, compare=_GE), 0.5)),
    Feature("comparison", "v >= odd threshold", one_neuron(neuron(7.0, compare=_GE))),
    Feature("decay", "v: smallest", one_neuron(neuron(keep_v=4095 / 4096))),
    Feature("decay", "v: largest", one_neuron(neuron(keep_v=1 / 4096))),
    Feature("decay", "u: smallest", one_neuron(neuron(40.0, keep_u=4095 / 4096))),
    Feature("decay", "u: half", one_neuron(neuron(keep_u=2048 / 4096))),
    Feature("synapse", "convolution", one_synapse(Conv2d(padding=(1, 1)), (3, 2, 3, 3))),
    Feature("synapse", "dense", one_synapse(Dense(), (6, 40), theta=40.0)),
    Feature("synapse", "sum pool", one_synapse(SumPool2d((2, 2), (2, 2)), ())),
    Feature("synapse", "one to one", one_synapse(Identity(), ())),
    Feature("synapse", "one to one, weight per channel", one_synapse(Identity(), (2, 1, 1), theta=6.0)),
    Feature("synapse", "one weight array for two projections", joined("distribute")),
    Feature("synapse", "unsigned weights", _UNSIGNED, _AS_UNSIGNED),
    Feature("synapse", "odd signed weights", _ODD, _AS_ODD, tuple((one, "NMC-Q02") for one in _LAVA)),
    Feature("geometry", "1x1", one_synapse(Conv2d(), (3, 2, 1, 1))),
    Feature("geometry", "5x5", one_synapse(Conv2d(padding=(2, 2)), (2, 2, 5, 5))),
    Feature("geometry", "kernel not square", one_synapse(Conv2d(padding=(0, 2)), (2, 2, 1, 5))),
    Feature("geometry", "kernel of even size", one_synapse(Conv2d(padding=(1, 1)), (2, 2, 2, 4))),
    Feature("geometry", "map not square", one_synapse(Conv2d(padding=(1, 1)), (2, 2, 3, 3), (2, 3, 7))),
    Feature("geometry", "stride 2", one_synapse(Conv2d((2, 2), (1, 1)), (2, 2, 3, 3))),
    Feature("geometry", "stride 2x1", one_synapse(Conv2d((2, 1), (1, 1)), (2, 2, 3, 3))),
    Feature("geometry", "no padding", one_synapse(Conv2d(), (2, 2, 3, 3))),
    Feature("geometry", "padding 2x0", one_synapse(Conv2d(padding=(2, 0)), (2, 2, 3, 3))),
    Feature("geometry", "padding that differs from side to side", one_sided),
    Feature("geometry", "dilation 2x1", one_synapse(Conv2d((1, 1), (2, 1), (2, 1)), (2, 2, 3, 3))),
    Feature("geometry", "groups", one_synapse(Conv2d(padding=(1, 1), groups=2), (4, 2, 3, 3), (4, 3, 3))),
    Feature("geometry", "depthwise", one_synapse(Conv2d(padding=(1, 1), groups=4), (4, 1, 3, 3), (4, 3, 3))),
    Feature(
        "geometry",
        "depthwise, 160 channels",
        one_synapse(Conv2d(padding=(1, 1), groups=160), (160, 1, 3, 3), (160, 2, 2)),
    ),
    Feature("join", "vanilla: into the membrane", joined("vanilla")),
    Feature("join", "projection shortcut", joined("projection shortcut")),
    Feature("join", "SEW ADD by relay", joined("relay")),
    Feature("join", "SEW ADD by distribution", joined("distribute")),
    Feature("join", "SEW AND", joined("AND")),
    Feature("join", "SEW IAND", joined("IAND")),
    Feature("join", "OR", joined("OR")),
    Feature("join", "MS: currents of the whole stream", joined("MS")),
    Feature("join", "concatenation", concatenation),
    Feature("loop", "of one population and of two", loops()),
    Feature("loop", "with a bias, which waits for the first data", loops(_BIASES)),
    Feature("loop", "of a soft reset", looped_reset(1.0)),
    Feature("loop", "of a leaky soft reset", looped_reset(0.5)),
    Feature("delay", "0", delayed("conv")),
    Feature("delay", "1", delayed("conv"), by(1)),
    Feature("delay", "1, dense", delayed("dense"), by(1)),
    Feature("delay", "2, pool", delayed("pool"), by(2)),
    Feature("delay", "2, one to one", delayed("identity"), by(2)),
    Feature("delay", "62, convolution", delayed("conv"), by(62)),
    Feature("delay", "63, dense", delayed("dense"), by(63)),
    Feature("delay", "69, by a relay", delayed("conv"), past_a_relay),
    Feature("delay", "64 in one synapse", delayed("conv"), by(64), tuple((one, "NMC-T01") for one in _LAVA)),
    Feature("delay", "relay lines of length 2", joined("MS"), max_delay=0),
    Feature("pool", "sum 2x2", pooled(SumPool2d((2, 2), (2, 2)), 6.0)),
    Feature("pool", "overlapping, padded", pooled(SumPool2d((3, 3), (2, 2), (1, 1)), 8.0)),
    Feature("pool", "global", pooled(SumPool2d((4, 4), (4, 4)), 10.0)),
    Feature("pool", "maximum of spikes", pooled(SumPool2d((2, 2), (2, 2)), 2.0, **GATE)),
    Feature("payload", "sum of two", joined("relay")),
    Feature("payload", "sum of sums", relay_of_relays),
    Feature("payload", "sum in parts", one_synapse(Dense(), (6, 40), theta=40.0), in_parts),
    Feature("payload", "input of 8 bits", inputs(frame(highest=255), 3.0)),
    Feature("payload", "input with signs", inputs(frame(lowest=-9, highest=9))),
    Feature("readout", "spike counts", one_neuron(IF)),
    Feature("readout", "potential", _READ, _UNREAD),
    Feature("readout", "potential, leaky", _LEAKY, _UNREAD),
    Feature("readout", "potential behind a current filter", _FILTERED, _UNREAD),
    Feature("readout", "two outputs", two_outputs),
    Feature("input", "spike train", inputs(lambda: Sketch(1, 4, 4))),
    Feature("input", "graded train", inputs(lambda: Sketch(1, 4, 4, highest=7))),
    Feature("input", "graded frame", inputs(frame())),
    Feature("input", "current", inputs(frame(-5, 5, Encoding.CURRENT)), with_host_bias),
    Feature("input", "current and bias", inputs(frame(-5, 5, Encoding.CURRENT), _BIASES), with_host_bias),
    Feature(
        "input",
        "current beyond 13 bits",
        inputs(frame(0, 2000, Encoding.CURRENT)),
        with_host_bias,
        tuple((one, "NMC-Q01") for one in _LAVA),
    ),
)
