"""SLAYER's ``.net`` files as QUANTIZED networks: the file holds the chip's integers, and they are kept.

What the fields mean (lava-dl 0.6, netx/hdf5.py and netx/blocks/process.py): u decays by iDecay / 4096, which
Lava's LIF counts from 1 (du = iDecay - 1), v by vDecay / 4096; a spike leaves at v > vThMant * 64; biases
are in weight units (exponent 6). An input layer with neurons takes frames as bias current, weight * x + bias.
A delay holds for everything that one neuron of the layer receives. Two things differ from lava-dl's reader:
delays of convolutions count, as they do in SLAYER, and pools and averages are read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import numpy as np

from nmc import neuron as spec
from nmc import synapse, timing
from nmc.errors import NmcError
from nmc.frontend.netfile import NetFile, NetLayer, read_net_file
from nmc.frontend.raw import Finding, raise_first
from nmc.frontend.slayer_fields import (
    BIAS_EXP,
    MAX_DELAY,
    bias_field,
    delays_of,
    matrix,
    neuron_of,
    readout,
    rows_of,
    shape_of,
    weight_field,
    window,
)
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    Identity,
    InputNeuron,
    IntArray,
    Network,
    Population,
    Projection,
    Shape,
    Stage,
    SumPool2d,
    Synapse,
)

DEFAULT_INPUT_WEIGHT = 64
FRAME_BITS = 12
"""Frames enter on a grid of 2**-12; weight * x + bias is then rounded to a bias mantissa."""


def load_net(path: str | os.PathLike[str], steps: int | None = None) -> Network:
    """Read a ``.net`` file into a QUANTIZED network.

    Args:
        path: the file.
        steps: T; by default the samples' length that the file states.

    Raises:
        NmcError: the first error that ``inspect_net`` finds; NMC-U02 where nobody says T.
    """
    network, findings = inspect_net(path, steps)
    raise_first(findings)
    assert network is not None
    if network.steps < 1:
        raise NmcError("NMC-U02", "steps", f"{network.name} does not say how many", "give --steps T")
    return network


def inspect_net(
    path: str | os.PathLike[str], steps: int | None = None
) -> tuple[Network | None, list[Finding]]:
    """The network, if the file has no error, and everything that is wrong with the file.

    T is 0 where neither the file nor ``steps`` says it.

    Raises:
        NmcError: NMC-F01, F02, F03 when the file cannot be read at all.
    """
    file, findings = read_net_file(path)
    findings += [Finding.of(layer.error) for layer in file.layers if layer.error is not None]
    chain = _Chain(file.layers)
    for layer in file.layers:
        try:
            if layer.error is None:
                chain.add(layer)
        except NmcError as error:
            findings.append(Finding.of(error))
        if not chain.reached(layer) and not chain.stand_in(layer):
            break
    if any(finding.severity == "error" for finding in findings):
        return None, findings
    try:
        return chain.network(file, steps or file.steps or 0), findings
    except NmcError as error:
        return None, [*findings, Finding.of(error)]


class _Chain:
    """Populations and projections so far; every layer reads the last population."""

    def __init__(self, layers: tuple[NetLayer, ...]) -> None:
        self.last = layers[-1]
        self.populations: list[Population] = []
        self.projections: list[Projection] = []
        self.flat = False
        self.build: dict[str, Callable[[NetLayer], None]] = {
            "input": self._input,
            "flatten": self._flatten,
            "average": self._average,
            "conv": self._conv,
            "pool": self._pool,
            "dense": self._dense,
            "dense_rec": self._dense,
        }

    def add(self, layer: NetLayer) -> None:
        """One layer more.

        Raises:
            NmcError: for a layer that does not fit the one before it.
        """
        if layer.kind == "input" and layer.index:
            raise NmcError("NMC-F04", layer.name, "is not the first layer", "leave the second input out")
        if layer.kind in ("flatten", "average") and layer.neuron is not None:
            raise NmcError("NMC-F04", layer.name, "has a neuron, which its type has not", "export it again")
        if not self.populations and layer.kind != "input":
            self._spikes("input", _source_shape(layer))
        self.build[layer.kind](layer)

    def reached(self, layer: NetLayer) -> bool:
        """Whether the layers behind this one have something to read."""
        return layer.kind == "flatten" or any(one.name == layer.name for one in self.populations[-1:])

    def stand_in(self, layer: NetLayer) -> bool:
        """Go on behind a wrong layer with the shape that the file states, where it does."""
        try:
            shape = shape_of(layer)
        except (NmcError, KeyError):
            return False
        self.populations.append(Population(layer.name, shape, InputNeuron(Encoding.SPIKES)))
        return True

    def network(self, file: NetFile, steps: int) -> Network:
        end = self.populations[-1]
        if end.is_input:
            raise NmcError("NMC-F04", file.name, "holds no layer with neurons", "export the whole network")
        free = Network(
            file.name,
            Stage.FLOAT,
            tuple(self.populations),
            tuple(self.projections),
            (end.name,),
            steps,
            "potential" if isinstance(end.neuron, FixedNeuron) and end.neuron.vth is None else "count",
            notes=("integers as the .net file holds them",),
        )
        # A chain needs no relays: no delay exceeds what one projection holds.
        return timing.balance(free, MAX_DELAY).with_(stage=Stage.QUANTIZED)

    @property
    def source(self) -> Population:
        return self.populations[-1]

    # --- layers ---------------------------------------------------------------------------------------

    def _spikes(self, name: str, shape: Shape) -> None:
        self.populations.append(Population(name, shape, InputNeuron(Encoding.SPIKES), origin=(name,)))

    def _input(self, layer: NetLayer) -> None:
        shape = shape_of(layer)
        if layer.neuron is None:
            if layer.fields.keys() & {"weight", "bias"}:
                raise NmcError(
                    "NMC-F04", layer.name, "weights its input, but has no neuron", "export it again"
                )
            self._spikes(layer.name, shape)
            return
        weight, bias = layer.one("weight", DEFAULT_INPUT_WEIGHT), layer.one("bias", 0)
        room = (1 << (spec.BIAS_MANT_BITS - 1)) - 1 - abs(bias)
        if weight == 0 or room < abs(weight):
            problem = f"transforms frames by {weight} x + {bias}; a bias holds up to {room + abs(bias)}"
            raise NmcError("NMC-Q02", layer.name, problem, "scale the input down")
        reach = (room << FRAME_BITS) // abs(weight)
        frames = InputNeuron(Encoding.CURRENT, 2.0**-FRAME_BITS, -reach, reach)
        name = f"{layer.name}.frame"
        self.populations.append(Population(name, shape, frames, origin=(name,)))
        neuron = neuron_of(layer, layer.index == self.last.index)
        own = Fixed(np.asarray(bias), BIAS_EXP, spec.BIAS_MANT_BITS, signed=True)
        self.populations.append(Population(layer.name, shape, neuron, own, origin=(layer.name,)))
        bits = max(2, abs(weight).bit_length() + 1)
        self.projections.append(
            Projection(
                layer.name,
                name,
                layer.name,
                Identity(),
                Fixed(np.asarray(weight), 0, bits, signed=True),
                on_host=True,
                host_shift=FRAME_BITS,
                origin=(layer.name,),
            )
        )

    def _flatten(self, layer: NetLayer) -> None:
        self.flat = True
        stated = layer.fields.get("shape")
        size = self.source.size
        if stated is not None and int(np.prod(stated)) != size:
            problem = f"gives {tuple(stated.reshape(-1).tolist())}, {self.source.name} has {size} neurons"
            raise NmcError("NMC-G03", layer.name, problem, "export it again")

    def _conv(self, layer: NetLayer) -> None:
        weight = layer.fields["weight"]
        if weight.ndim == 5 and weight.shape[4] == 1:
            weight = weight[..., 0]
        if weight.ndim != 4:
            raise NmcError(
                "NMC-F04", layer.name, f"weight of shape {weight.shape}", "expected (out, in, h, w)"
            )
        operator = Conv2d(*window(layer, (weight.shape[2], weight.shape[3])), layer.one("groups"))
        if operator.groups < 1:
            raise NmcError("NMC-F04", layer.name, f"groups = {operator.groups}", "at least 1")
        for key, found in (
            ("inChannels", weight.shape[1] * operator.groups),
            ("outChannels", weight.shape[0]),
        ):
            _check_size(layer, key, found)
        self._project(layer, operator, weight, shape_of(layer))

    def _pool(self, layer: NetLayer) -> None:
        """Sums over windows: one weight, or one kernel for all channels as a depthwise convolution."""
        weight = layer.fields["weight"]
        kernel = weight.reshape(weight.shape[2:4]) if weight.ndim in (4, 5) and weight.size else weight
        if kernel.ndim != 2:
            raise NmcError("NMC-F04", layer.name, f"weight of shape {weight.shape}", "expected (1, 1, h, w)")
        stride, padding, dilation = window(layer, (kernel.shape[0], kernel.shape[1]))
        if dilation == (1, 1) and kernel.min() == kernel.max():
            pool = SumPool2d((kernel.shape[0], kernel.shape[1]), stride, padding)
            self._project(layer, pool, np.asarray(kernel.flat[0]), shape_of(layer))
            return
        channels = self.source.shape[0]
        operator = Conv2d(stride, padding, dilation, channels)
        self._project(layer, operator, np.broadcast_to(kernel, (channels, 1, *kernel.shape)), shape_of(layer))

    def _dense(self, layer: NetLayer) -> None:
        shape = (math.prod(shape_of(layer)),)
        source = self.source
        if len(source.shape) > 1 and not self.flat and source.shape[1:] != (1,) * (len(source.shape) - 1):
            problem = f"a dense layer on {source.name} of shape {source.shape}"
            raise NmcError("NMC-G03", layer.name, problem, "flatten it first")
        weights = {
            key: matrix(layer, key, shape[0]) for key in ("weight", "weight_rec") if key in layer.fields
        }
        for key, found in (("inFeatures", weights["weight"].shape[1]), ("outFeatures", shape[0])):
            _check_size(layer, key, found)
        self._project(layer, Dense(), weights["weight"], shape)
        if "weight_rec" not in weights:
            return
        if weights["weight_rec"].shape != (shape[0], shape[0]):
            problem = f"recurrent weights {weights['weight_rec'].shape} on {shape[0]} neurons"
            raise NmcError("NMC-G03", layer.name, problem, "export it again")
        if "delay" in layer.fields and layer.fields["delay"].any():
            raise NmcError("NMC-G05", layer.name, "delays in a recurrent layer", "train it without delays")
        fixed = weight_field(layer, weights["weight_rec"])
        origin = (layer.name,)
        self.projections.append(
            Projection(f"{layer.name}.rec", layer.name, layer.name, Dense(), fixed, origin=origin, lag=1)
        )

    def _average(self, layer: NetLayer) -> None:
        """Mean over groups of neighbouring neurons: their spikes, summed by a readout."""
        groups, size = math.prod(shape_of(layer)), self.source.size
        fires = isinstance(self.source.neuron, FixedNeuron) and self.source.neuron.vth is not None
        if layer.index != self.last.index or not fires:
            problem = "an average of anything but the spikes of the last layer"
            raise NmcError("NMC-G05", layer.name, problem, "move it to the end")
        if size % groups:
            raise NmcError("NMC-G03", layer.name, f"{size} neurons in {groups} groups", "export it again")
        member = np.repeat(np.eye(groups, dtype=np.int64), size // groups, axis=1)
        self._connect(layer, Dense(), member, (groups,), readout())

    # --- populations ----------------------------------------------------------------------------------

    def _project(self, layer: NetLayer, operator: Synapse, weight: IntArray, shape: Shape) -> None:
        found = synapse.output_shape(operator, weight.shape, self.source.shape, layer.name)
        if found != shape:
            raise NmcError("NMC-G03", layer.name, f"gives {found}, the file says {shape}", "export it again")
        self._connect(layer, operator, weight, shape, neuron_of(layer, layer.index == self.last.index))

    def _connect(
        self, layer: NetLayer, operator: Synapse, weight: IntArray, shape: Shape, neuron: FixedNeuron
    ) -> None:
        """The layer's population and its projections, one per delay."""
        source, bias = self.source, bias_field(layer, shape)
        fixed = weight_field(layer, weight)
        delays = delays_of(layer, shape[0], weight.shape[-1] if isinstance(operator, Dense) else 0)
        populations = [Population(layer.name, shape, neuron, bias, origin=(layer.name,))]
        projections = []
        for delay in np.unique(delays):
            part = fixed if delays.size == 1 else rows_of(fixed, delays == delay)
            name = layer.name if delays.min() == delays.max() else f"{layer.name}.delay{delay}"
            projections.append(
                Projection(
                    name, source.name, layer.name, operator, part, origin=(layer.name,), lag=int(delay)
                )
            )
        self.populations += populations
        self.projections += projections
        self.flat = False


def _source_shape(layer: NetLayer) -> Shape:
    """What the first layer reads, where the file has no input layer and only one shape fits."""
    if "inFeatures" in layer.fields:
        return (layer.one("inFeatures"),)
    if layer.kind == "conv":
        kernel = layer.fields["weight"].shape[2:4]
        stride, padding, dilation = window(layer, (kernel[0], kernel[1]))
        if stride == (1, 1):
            sizes = (
                n - 1 + dilation[axis] * (kernel[axis] - 1) + 1 - 2 * padding[axis]
                for axis, n in enumerate(shape_of(layer)[1:])
            )
            return (layer.fields["weight"].shape[1] * layer.one("groups"), *sizes)
    problem = "is the first layer, and the file does not say what shape it reads"
    raise NmcError("NMC-F04", layer.name, problem, "train with an input layer (slayer.block.cuba.Input)")


def _check_size(layer: NetLayer, key: str, found: int) -> None:
    """Refuse (NMC-G03) a layer that says another size than its weights have."""
    if layer.one(key, found) != found:
        problem = f"weights of {found} {key}, the file says {layer.one(key)}"
        raise NmcError("NMC-G03", layer.name, problem, "export it again")
