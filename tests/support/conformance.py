"""Feature x engine: every cell equals the oracle in every spike, u and v, or is refused by design.

    python tests/support/conformance.py                      all engines but the slow ones, on the terminal
    python tests/support/conformance.py --slow docs/conformance.md     all engines, written as a page

A new engine is a name in ``nmc.backends.engines``; a new feature is an entry of ``features.FEATURES``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import oracle
from features import FEATURES, STEPS, Feature

from nmc.backends.base import Trace
from nmc.backends.engines import NAMES, engine
from nmc.chip import load_chip
from nmc.errors import NmcError
from nmc.ir import Encoding, FixedNeuron, InputNeuron, IntArray, Network, Stage
from nmc.quantize.reset_loops import reset_loops
from nmc.quantize.support import check_support
from nmc.rules import verify

SLOW = ("lava",)
"""Engines that start a runtime for every cell."""
CHIPS = ("loihi1", "loihi2", "lava-cpu")
PASS, FAIL = "pass", "FAIL"


@dataclass(frozen=True)
class Cell:
    """Result of one feature on one engine or chip; ``detail`` is the reason of a refusal or failure."""

    result: str
    detail: str = ""

    def __str__(self) -> str:
        return self.result


def meaning(feature: Feature, x: IntArray) -> dict[str, list[Any]]:
    """Per population of the float network: (spikes, u, v), each (N, T, size), by the oracle."""
    free = feature.free()
    samples = [oracle.run(free, sample, STEPS) for sample in x]
    found = {}
    for population in free.compute:
        kinds = []
        for kind in range(3):
            kinds.append(np.array([[step[kind] for step in sample[population.name]] for sample in samples]))
        found[population.name] = kinds
    return found


def unequal(network: Network, trace: Trace, expected: dict[str, list[Any]]) -> list[str]:
    """What differs between a trace and the oracle, by population and kind."""
    wrong = []
    for name, kinds in expected.items():
        stateful = isinstance(network[name].neuron, FixedNeuron)
        for kind, values in zip(("spikes", "u", "v"), kinds, strict=True):
            if kind != "spikes" and not stateful:
                continue
            got = getattr(trace, kind)[name]
            count = int((got.reshape(values.shape) != values).sum())
            if count:
                wrong.append(f"{kind} of {name}: {count} of {values.size}")
    potential = network.readout == "potential"
    outputs = [
        expected[name][2][:, -1] if potential else expected[name][0].sum(1) for name in network.outputs
    ]
    if not np.array_equal(trace.output, np.concatenate(outputs, axis=1)):
        wrong.append("output")
    return wrong


def run_cell(feature: Feature, name: str) -> Cell:
    """One feature on one engine."""
    network = feature.network()
    verify(network, Stage.MAPPED)
    x = feature.samples(network)
    must_refuse = dict(feature.refused).get(name)
    try:
        trace = engine(name).run(network, x, STEPS, [p.name for p in network.compute])
    except NmcError as error:
        if error.code == must_refuse:
            return Cell(f"refused {error.code}", str(error))
        return Cell(FAIL, str(error))
    if must_refuse:
        return Cell(FAIL, f"ran, {must_refuse} was expected")
    wrong = unequal(network, trace, meaning(feature, x))
    if not any(array.any() for array in (*trace.spikes.values(), *trace.v.values())):
        wrong.append("nothing ever happens, so nothing is tested")
    return Cell(FAIL, "; ".join(wrong)) if wrong else Cell(PASS)


def chip_cell(feature: Feature, name: str) -> Cell:
    """Whether a chip has the hardware for a feature, as ``nmc compile`` decides it."""
    chip = load_chip(name)
    network = feature.network()
    source = network.inputs[0].neuron
    assert isinstance(source, InputNeuron)
    if source.encoding is Encoding.GRADED and not chip.payload_bits:
        return Cell("as current", "frames become bias current (pass host-input)")
    longest = max(projection.delay for projection in network.projections)
    if longest > chip.max_delay:
        return Cell("refused NMC-T01", f"delay {longest}, {name} has {chip.max_delay}: compiled to relays")
    try:
        looped = reset_loops(network, chip)
        check_support(looped, chip)
    except NmcError as error:
        return Cell(f"refused {error.code}", str(error))
    return Cell("yes" if looped is network else "as a loop")


def matrix(engines: tuple[str, ...], show: bool = False) -> list[tuple[Feature, dict[str, Cell]]]:
    """Every feature on every engine and chip."""
    rows = []
    for feature in FEATURES:
        cells = {name: run_cell(feature, name) for name in engines}
        cells |= {name: chip_cell(feature, name) for name in CHIPS}
        rows.append((feature, cells))
        if show:
            line = "  ".join(f"{name}: {cell}" for name, cell in cells.items())
            print(f"{feature.area}, {feature.name}: {line}", file=sys.stderr, flush=True)
    return rows


def render(rows: list[tuple[Feature, dict[str, Cell]]]) -> str:
    """The page, in Markdown."""
    columns = list(rows[0][1])
    lines = [
        "# Conformance",
        "",
        "Written by `python tests/support/conformance.py --slow docs/conformance.md`; do not edit.",
        "",
        "Each row is the smallest network that shows a feature (`tests/support/features.py`), run with two",
        "samples back to back. **pass**: every spike, u and v of every population and step, and the output,",
        "equal a pure-Python oracle that shares no code with nmc; no tolerance. **refused**: by design, with",
        "the code shown. The columns of chips say whether `nmc compile` accepts the feature for that chip;",
        "*as current*: the host turns the frame into bias current, which is the feature input/current.",
        "*as a loop*: of a synapse from each neuron to itself, which is a feature of the area loop.",
        "A soft reset or a start value runs in Lava as a process model of nmc, on the CPU only.",
        "",
        "| area | feature | " + " | ".join(columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    reasons: dict[str, str] = {}
    for feature, cells in rows:
        lines.append(
            f"| {feature.area} | {feature.name} | " + " | ".join(str(cells[name]) for name in columns) + " |"
        )
        for name, cell in cells.items():
            if cell.detail:
                reasons[f"{feature.area}, {feature.name} on {name}"] = cell.detail
    lines += ["", "## Reasons", ""]
    lines += [f"- {who}: {detail}" for who, detail in reasons.items()]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    slow = "--slow" in arguments
    out = [Path(one) for one in arguments if one != "--slow"]
    rows = matrix(tuple(name for name in NAMES if slow or name not in SLOW), show=True)
    page = render(rows)
    if out:
        out[0].write_text(page, encoding="utf-8")
    else:
        print(page)
    return int(any(cell.result == FAIL for _, cells in rows for cell in cells.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
