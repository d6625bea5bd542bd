"""NIR files as op graphs: everything that is wrong at once, or the graph.

``nir_file`` reads, ``raw.structure`` looks at the edges, ``profiles.resolve`` settles what NIR leaves
out, and ``build`` makes ops and checks every shape on the way.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nmc.errors import NmcError
from nmc.frontend import nir_semantics
from nmc.frontend import opgraph as og
from nmc.frontend import padding as paddings
from nmc.frontend.nir_expand import delay_op, expand
from nmc.frontend.nir_file import read_raw
from nmc.frontend.nir_lint import lost_end, unresolved
from nmc.frontend.nir_loops import PREVIOUS, loop_findings, with_delays
from nmc.frontend.nir_neurons import NEURONS, neuron_op
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.profiles import PROFILES, ProfileChoice, resolve
from nmc.frontend.raw import Finding, RawGraph, RawNode, Value, raise_first, structure
from nmc.frontend.shapes import Operand, along, output_shape
from nmc.ir import Shape


def load_nir(path: str | os.PathLike[str], profile: str | None = None, dt: float | None = None) -> OpGraph:
    """Read a NIR file into an op graph.

    Args:
        path: the file.
        profile: a name of ``profiles.PROFILES``; None to take it from the file.
        dt: seconds per time step; None to take it from the file.

    Raises:
        NmcError: the first error that ``inspect_nir`` finds.
    """
    graph, findings = inspect_nir(path, profile, dt)
    raise_first(findings)
    assert graph is not None
    return graph


def inspect_nir(
    path: str | os.PathLike[str], profile: str | None = None, dt: float | None = None
) -> tuple[OpGraph | None, list[Finding]]:
    """The op graph of a NIR file, if it has no error, and everything that is wrong with the file.

    Raises:
        NmcError: NMC-F01, F02, F03 when the file cannot be read at all, NMC-U02 or NMC-U03 for
            ``dt`` or ``profile``.
    """
    raw, findings = read_raw(path)
    if all(finding.code != "NMC-G01" for finding in findings):
        # A wrong edge leaves nodes unfed behind it: one fault, one finding.
        findings += [*loop_findings(raw), *structure(raw)]
    if any(finding.severity == "error" for finding in findings):
        return None, findings
    if nir_semantics.carries(raw):
        return _ours(raw, findings, profile, dt)
    raw = with_delays(expand(raw))
    try:
        choice = resolve(raw, profile, dt)
    except NmcError as error:
        if error.code.startswith("NMC-U"):
            raise
        # Whatever the profile, shapes are wrong or right.
        _, problems = build(raw, ProfileChoice(PROFILES["nir"], 1.0, ""))
        return None, [*findings, *unresolved(raw, error, profile, dt), *problems]
    findings += lost_end(raw, choice)
    graph, problems = build(raw, choice)
    return graph, findings + problems


def _ours(
    raw: RawGraph, findings: list[Finding], profile: str | None, dt: float | None
) -> tuple[OpGraph | None, list[Finding]]:
    """The graph that nmc wrote into the file."""
    given = "profile" if profile is not None else "dt" if dt is not None else None
    try:
        if given:
            problem = f"a {given} is given, but nmc wrote this file and says all about its neurons"
            raise NmcError("NMC-G07", raw.name, problem, f"leave --{given} out")
        graph = nir_semantics.decode(raw)
        graph.check_ends()
        _ = graph.shapes
    except NmcError as error:
        return None, [*findings, Finding.of(error)]
    return graph, findings


# --- the op graph -----------------------------------------------------------------------------------


def build(raw: RawGraph, choice: ProfileChoice) -> tuple[OpGraph | None, list[Finding]]:
    """Ops for all nodes, shapes checked on the way; None with findings where a node does not fit."""
    delays = {name: og.Delay() for name, _ in raw.of(PREVIOUS, "Delay")}
    skeleton = OpGraph({name: delays.get(name, og.Add()) for name in raw.nodes}, raw.edges)
    ops: dict[str, og.Op] = {}
    findings: list[Finding] = []

    def shape(name: str, operands: list[Operand]) -> Shape | None:
        try:
            if name not in ops:
                ops[name] = _op(name, raw.nodes[name], operands[0][1] if operands else (), choice)
            return output_shape(name, ops[name], operands)
        except NmcError as error:
            findings.append(Finding.of(error))
            return None

    shapes = along(skeleton, shape)
    missing = [name for name in skeleton.order if name not in shapes]
    if missing and not findings:
        findings.append(
            Finding(
                "error",
                "NMC-G03",
                missing[0],
                "stands in a loop that no data enter",
                "feed it from the input",
            )
        )
    if findings:
        return None, findings
    try:
        steps = _steps(raw)
    except NmcError as error:
        return None, [Finding.of(error)]
    nodes = {name: ops[name] for name in skeleton.order}
    return OpGraph(nodes, raw.edges, Path(raw.name).stem, steps, profile=str(choice)), []


def _steps(raw: RawGraph) -> int | None:
    if "steps" not in raw.metadata:
        return None
    steps = _whole("metadata", "steps", raw.metadata["steps"])
    if len(steps) != 1 or steps[0] < 1:
        raise NmcError("NMC-F04", "metadata", f"steps = {steps}", "expected one number of at least 1")
    return steps[0]


def _op(name: str, node: RawNode, source: Shape, choice: ProfileChoice) -> og.Op:
    kind = node.kind
    if kind == PREVIOUS:
        return og.Delay()
    if kind == "Input":
        return og.Input(_whole(name, "shape", node.fields["shape"]))
    if kind == "Output":
        return og.Output(_whole(name, "shape", node.fields["shape"]))
    if kind in NEURONS:
        return neuron_op(name, node, choice)
    if kind in ("Affine", "Linear"):
        weight = _numbers(name, node, "weight")
        if weight.ndim != 2:
            raise NmcError(
                "NMC-G05", name, f"a weight of shape {weight.shape}", "only (out, in) is supported"
            )
        return og.Linear(weight, _numbers(name, node, "bias") if kind == "Affine" else None)
    if kind == "Scale":
        return og.Scale(_numbers(name, node, "scale"))
    if kind == "Delay":
        return delay_op(name, node, choice.dt)
    if kind == "Conv2d":
        return _conv(name, node, source)
    if kind == "Flatten":
        return _flatten(name, node, source)
    kernel, stride, padding = (_pair(name, node, key) for key in ("kernel_size", "stride", "padding"))
    return (og.SumPool if kind == "SumPool2d" else og.AvgPool)(kernel, stride, padding)


def _numbers(name: str, node: RawNode, key: str) -> npt.NDArray[np.float64]:
    value = node.fields[key]
    if isinstance(value, str):
        raise NmcError("NMC-F04", name, f"field '{key}' is text, expected numbers", "export the graph again")
    return value.astype(np.float64)


def _whole(name: str, key: str, value: Value) -> tuple[int, ...]:
    if isinstance(value, str) or value.dtype.kind not in "iu" or value.ndim > 1:
        raise NmcError("NMC-F04", name, f"field '{key}' is {value!r:.60}", "expected whole numbers")
    return tuple(int(number) for number in np.ravel(value))


def _pair(name: str, node: RawNode, key: str) -> og.Pair:
    numbers = _whole(name, key, node.fields[key])
    if len(numbers) not in (1, 2):
        raise NmcError("NMC-F04", name, f"field '{key}' has {len(numbers)} numbers", "expected one or two")
    return numbers[0], numbers[-1]


def _conv(name: str, node: RawNode, source: Shape) -> og.Conv2d:
    weight, bias = _numbers(name, node, "weight"), _numbers(name, node, "bias")
    if weight.ndim != 4:
        raise NmcError(
            "NMC-F04", name, f"weight of shape {weight.shape}", "expected (out, in, height, width)"
        )
    stride, dilation = _pair(name, node, "stride"), _pair(name, node, "dilation")
    groups = _whole(name, "groups", node.fields["groups"])
    if len(groups) != 1:
        raise NmcError("NMC-F04", name, f"field 'groups' has {len(groups)} numbers", "expected one")
    told = node.fields.get("input_shape")
    if isinstance(told, np.ndarray) and tuple(np.ravel(told)) != source[1:]:
        problem = f"expects maps of {tuple(int(n) for n in np.ravel(told))}, gets {source[1:]}"
        raise NmcError("NMC-G03", name, problem, "export it with the shape of its input")
    padding = node.fields["padding"]
    if isinstance(padding, str):
        weight, pads = _named_padding(name, padding, weight, stride, dilation)
    else:
        pads = _pair(name, node, "padding")
    return og.Conv2d(weight, bias, stride, pads, dilation, groups[0])


def _named_padding(
    name: str, padding: str, weight: npt.NDArray[np.float64], stride: og.Pair, dilation: og.Pair
) -> tuple[npt.NDArray[np.float64], og.Pair]:
    """'valid' and 'same' as numbers."""
    if padding == "valid":
        return weight, (0, 0)
    if padding != "same":
        raise NmcError("NMC-F04", name, f"padding {padding!r:.40}", "expected 'same', 'valid' or numbers")
    if stride != (1, 1):
        raise NmcError("NMC-F04", name, f"padding 'same' with stride {stride}", "expected stride 1")
    equal = paddings.same(weight, dilation)
    if equal is None:
        raise NmcError("NMC-G05", name, "padding 'same' of a dilated even kernel", "pad by numbers")
    return equal


def _flatten(name: str, node: RawNode, source: Shape) -> og.Flatten:
    """Axes count without the batch; an exporter that counted it left an input type with one axis more."""
    start, end = (_whole(name, key, node.fields[key])[0] for key in ("start_dim", "end_dim"))
    told = node.fields.get("input_type")
    if isinstance(told, np.ndarray) and told.size == len(source) + 1:
        start, end = (axis - 1 if axis > 0 else axis for axis in (start, end))
    return og.Flatten(start, end)
