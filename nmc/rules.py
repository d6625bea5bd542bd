"""The rules that a Network obeys at each stage, as a table. The pass runner checks them after every pass.

A broken rule is nmc's fault (InternalError), unless the network came from a file: ``bundle.read``
turns it into NMC-F06.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmc import neuron as spec
from nmc import synapse
from nmc.errors import InternalError, NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    FloatNeuron,
    GradedRelay,
    Identity,
    InputNeuron,
    Network,
    Population,
    Projection,
    Shape,
    Stage,
    SumPool2d,
)

Breach = tuple[str, str]
"""(who, what)"""


@dataclass(frozen=True)
class Rule:
    """One named rule; ``check`` yields its breaches. Holds from ``stage`` on (until ``until``)."""

    code: str
    text: str
    stage: Stage
    check: Callable[[Network], Iterator[Breach]]
    until: Stage = Stage.MAPPED


def verify(network: Network, stage: Stage) -> None:
    """Raise InternalError unless the network is at ``stage`` and obeys all of its rules."""
    if network.stage is not stage:
        raise InternalError(f"network is at stage {network.stage.name}, expected {stage.name}")
    breaches = list(findings(network))
    if breaches:
        raise InternalError("; ".join(breaches))


def findings(network: Network) -> Iterator[str]:
    """Every broken rule, one line each."""
    for rule in RULES:
        if rule.stage <= network.stage <= rule.until:
            count = 0
            for who, what in rule.check(network):
                yield f"{rule.code} {who}: {what} ({rule.text})"
                count += 1
            if count and rule.code in STRUCTURE:
                return  # later rules look names up and would only stumble


def _names_unique(network: Network) -> Iterator[Breach]:
    for group in (network.populations, network.projections):
        seen: set[str] = set()
        for item in group:
            if item.name in seen:
                yield item.name, "name used twice"
            seen.add(item.name)


def _endpoints_exist(network: Network) -> Iterator[Breach]:
    names = {population.name for population in network.populations}
    for projection in network.projections:
        for end in (projection.source, projection.target):
            if end not in names:
                yield projection.name, f"no population {end}"
    for output in network.outputs:
        if output not in names:
            yield output, "no such output population"
    if not network.outputs:
        yield network.name, "no output"


def _ordered(network: Network) -> Iterator[Breach]:
    position = {population.name: index for index, population in enumerate(network.populations)}
    for index, population in enumerate(network.inputs):
        if position[population.name] != index:
            yield population.name, "inputs come first"
    for projection in network.projections:
        if projection.lag < 0:
            yield projection.name, f"lag {projection.lag}"
        if not projection.lag and position[projection.source] >= position[projection.target]:
            yield projection.name, f"{projection.source} does not come before {projection.target}"


def _shapes_agree(network: Network) -> Iterator[Breach]:
    for projection in network.projections:
        source, target = network[projection.source], network[projection.target]
        try:
            shape = synapse.output_shape(
                projection.synapse, projection.weight_shape, source.shape, projection.name
            )
        except NmcError as error:
            yield projection.name, str(error)
            continue
        if shape != target.shape and not (
            isinstance(projection.synapse, Identity) and source.size % target.size == 0
        ):
            yield projection.name, f"gives {shape}, {target.name} is {target.shape}"


def _connected(network: Network) -> Iterator[Breach]:
    reached, waiting = set(network.outputs), list(network.outputs)
    while waiting:
        sources = {p.source for p in network.incoming(waiting.pop())} - reached
        reached |= sources
        waiting += sources
    for population in reversed(network.populations):
        if population.name not in reached:
            yield population.name, "reaches no output"
        fed = bool(network.incoming(population.name))
        # A clock lives on its bias alone (``quantize/reset_loops.py``).
        if fed if population.is_input else not fed and population.bias is None:
            yield population.name, "an input has no incoming projection, every other population one or a bias"


def _numbers(network: Network) -> Iterator[tuple[Population | Projection, str, Any]]:
    for projection in network.projections:
        yield projection, "weight", projection.weight
    for population in network.populations:
        yield population, "bias", population.bias
        if isinstance(population.neuron, FloatNeuron):
            yield population, "threshold", population.neuron.threshold
            yield population, "v0", population.neuron.v0
            yield population, "drop", population.neuron.drop
        elif isinstance(population.neuron, FixedNeuron):
            yield population, "threshold", population.neuron.vth
            yield population, "v0", population.neuron.v0
            yield population, "drop", population.neuron.drop


def _arrays_sound(network: Network) -> Iterator[Breach]:
    for owner, what, value in _numbers(network):
        if value is None:
            continue
        array = value.mant if isinstance(value, Fixed) else value
        if array.flags.writeable:
            yield owner.name, f"{what} is writeable"
        if not np.isfinite(array).all():
            yield owner.name, f"{what} is not finite"
        if isinstance(owner, Population) and not _broadcasts(array.shape, owner.shape):
            yield owner.name, f"{what} of shape {array.shape} on a population {owner.shape}"


def _host_only_from_current(network: Network) -> Iterator[Breach]:
    for projection in network.projections:
        neuron = network[projection.source].neuron
        current = isinstance(neuron, InputNeuron) and neuron.encoding is Encoding.CURRENT
        if projection.on_host != current:
            yield projection.name, "host projections are those, and only those, of a current-encoded input"
        if projection.on_host and (projection.delay or projection.lag):
            yield projection.name, "a host projection has no delay"
        if projection.on_host and isinstance(network[projection.target].neuron, GradedRelay):
            yield projection.name, "a relay takes no bias current"


def _relays_are_exact(network: Network) -> Iterator[Breach]:
    for population in network.populations:
        if not isinstance(population.neuron, GradedRelay):
            continue
        payload = 0
        for projection in network.incoming(population.name):
            weight = projection.weight
            if isinstance(weight, Fixed):
                whole = weight.exp >= 0
            else:
                adds = isinstance(projection.synapse, Identity | SumPool2d)
                whole = adds and np.array_equal(weight, np.rint(weight))
            if not whole:
                yield projection.name, "a relay is fed by whole weights, before quantization only by sums"
                continue
            source = network[projection.source]
            negative = sends_negative(network, source.name)
            payload += largest_sum(projection, source, population.size, negative=negative)
        if payload > population.max_payload:
            yield population.name, f"payload {payload} can arrive, {population.max_payload} declared"
    relays = {one.name for one in network.populations if isinstance(one.neuron, GradedRelay)}
    feeding = {name: {p.source for p in network.incoming(name)} & relays for name in relays}
    while ready := [name for name, sources in feeding.items() if not sources & feeding.keys()]:
        for name in ready:
            del feeding[name]
    for name in sorted(feeding):
        yield name, "relays feed each other in a loop"


def largest_sum(projection: Projection, source: Population, targets: int, *, negative: bool) -> int:
    """The largest magnitude that whole weights can bring to one of ``targets`` neurons, weight units.

    Args:
        negative: whether the source may send numbers below 0 (``sends_negative``).
    """
    weight = projection.weight
    whole, exp = (weight.mant, weight.exp) if isinstance(weight, Fixed) else (weight, 0)
    if isinstance(projection.synapse, Conv2d | Dense):
        rows = whole.reshape(len(whole), -1)
        total, size = rows.sum(axis=1), np.abs(rows).sum(axis=1)
        largest = size if negative else (size + np.abs(total)) // 2
        return (int(largest.max()) << exp) * source.max_payload
    taps = int(np.prod(getattr(projection.synapse, "kernel", (1,))))
    taps *= synapse.parts(projection.synapse, source.size, targets)
    return taps * (int(np.abs(whole).max()) << exp) * source.max_payload


def sends_negative(network: Network, name: str, behind: frozenset[str] = frozenset()) -> bool:
    """Whether a population's spikes may carry less than 0; ``behind``: relays that the question came from."""
    neuron = network[name].neuron
    if isinstance(neuron, InputNeuron):
        return neuron.lowest < 0
    if not isinstance(neuron, GradedRelay) or name in behind:
        return False
    for one in network.incoming(name):
        weight = one.weight.mant if isinstance(one.weight, Fixed) else one.weight
        if weight.min() < 0 or sends_negative(network, one.source, behind | {name}):
            return True
    return False


def _balanced(network: Network) -> Iterator[Breach]:
    for population in network.populations:
        if population.level is None:
            yield population.name, "no level"
            return
        if population.is_input and population.level != 0:
            yield population.name, f"an input at level {population.level}"
    for projection in network.projections:
        if projection.on_host:
            continue
        arrival = network[projection.source].time + projection.cost + projection.delay - projection.lag
        if projection.delay < 0 or arrival != network[projection.target].time:
            level = network[projection.target].level
            yield (
                projection.name,
                f"arrives at {arrival} (delay {projection.delay}), {projection.target} is at {level}",
            )


def _still_float(network: Network) -> Iterator[Breach]:
    for owner, what, value in _numbers(network):
        if isinstance(value, Fixed):
            yield owner.name, f"{what} is already fixed point"


def _all_fixed(network: Network) -> Iterator[Breach]:
    for population in network.populations:
        if isinstance(population.neuron, FloatNeuron):
            yield population.name, "neuron is still float"
        if population.bias is not None and not isinstance(population.bias, Fixed):
            yield population.name, "bias is still float"
        if population.bias is None and any(p.on_host for p in network.incoming(population.name)):
            yield population.name, "host input needs a bias"
    for projection in network.projections:
        if not isinstance(projection.weight, Fixed) or projection.weight.exp < 0:
            yield projection.name, "weight is no integer"


def _field(fixed: Fixed, bits: int, exp: int | range, signed: bool) -> bool:
    exps = exp if isinstance(exp, range) else range(exp, exp + 1)
    return fixed.bits <= bits and fixed.exp in exps and fixed.signed == signed


def _fields_fit(network: Network) -> Iterator[Breach]:
    for population in network.populations:
        if isinstance(population.bias, Fixed) and not _field(
            population.bias, spec.BIAS_MANT_BITS, range(spec.BIAS_EXP_MAX + 1), True
        ):
            yield population.name, "bias outside its field"
        neuron = population.neuron
        if isinstance(neuron, FixedNeuron):
            if neuron.vth is not None and not _field(
                neuron.vth, spec.THRESHOLD_BITS, spec.WEIGHT_SHIFT, False
            ):
                yield population.name, "threshold outside its field"
            for decay in (neuron.du, neuron.dv):
                if not _field(decay, spec.DECAY_BITS, -spec.DECAY_BITS, False):
                    yield population.name, "decay outside its field"


def _mapped_once(network: Network) -> Iterator[Breach]:
    if network.mapping is None:
        yield network.name, "no mapping"
        return
    for population in network.compute:
        placed = sum(tile.size for tile in network.mapping.of(population.name))
        if placed != population.size:
            yield population.name, f"{placed} of {population.size} neurons placed"


def _broadcasts(shape: Shape, onto: Shape) -> bool:
    try:
        return np.broadcast_shapes(shape, onto) == onto
    except ValueError:
        return False


STRUCTURE = ("R01", "R02", "R03")

RULES: tuple[Rule, ...] = (
    Rule("R01", "names are unique", Stage.FLOAT, _names_unique),
    Rule("R02", "projections join populations that exist", Stage.FLOAT, _endpoints_exist),
    Rule("R03", "populations stand in the order of all projections without lag", Stage.FLOAT, _ordered),
    Rule("R04", "operators give the target's shape", Stage.FLOAT, _shapes_agree),
    Rule("R05", "every population is fed and reaches an output", Stage.FLOAT, _connected),
    Rule("R06", "numbers are finite, read-only and broadcast", Stage.FLOAT, _arrays_sound),
    Rule("R07", "the host computes the projections of a current input", Stage.FLOAT, _host_only_from_current),
    Rule("R08", "relays add exactly and their payload is known", Stage.FLOAT, _relays_are_exact),
    Rule("R10", "numbers are float before quantization", Stage.FLOAT, _still_float, until=Stage.TIMED),
    Rule("R20", "every path into a population has the same length", Stage.TIMED, _balanced),
    Rule("R30", "every number is fixed point", Stage.QUANTIZED, _all_fixed),
    Rule("R31", "fixed-point fields have the chip's widths", Stage.QUANTIZED, _fields_fit),
    Rule("R40", "every neuron lies on one core", Stage.MAPPED, _mapped_once),
)
