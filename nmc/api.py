"""nmc from Python: load, compile, run, verify, report. The command line is a thin layer over this file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from nmc import bundle as bundle_format
from nmc import fitting, golden
from nmc.arrays import checked_labels, numbers
from nmc.backends import encode, memory
from nmc.backends.base import Trace
from nmc.backends.compare import Verification, compare
from nmc.backends.engines import engine as engine_by_name
from nmc.bundle import Bundle
from nmc.chip import Chip, chip_names, load_chip
from nmc.comparison import diff
from nmc.constraints import load_constraints
from nmc.errors import NmcError
from nmc.evaluation import evaluate
from nmc.frontend import float_engine
from nmc.frontend.builder import build, is_builder
from nmc.frontend.conversion.method import Method, for_chip
from nmc.frontend.convert import convert as to_spiking
from nmc.frontend.lint import Finding, check_file
from nmc.frontend.lower import lower
from nmc.frontend.netfile import is_net
from nmc.frontend.nir_write import write_nir
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.slayer import load_net
from nmc.ir import Encoding, Network, Stage
from nmc.models import encoding_of, load
from nmc.partition.check import check_mapping
from nmc.partition.constrained import check_constraints
from nmc.partition.fit import Fit
from nmc.partition.tile import OBJECTIVES, Objective
from nmc.passes import PassDone, after_quantize, pipeline, run_passes
from nmc.quantize import calibrate
from nmc.quantize.precision import Granularity, Precision
from nmc.quantize.tune import tune
from nmc.reports import layout
from nmc.reports.build import build_report
from nmc.reports.fidelity import LayerFit, compare_layers
from nmc.reports.model import Report
from nmc.reports.neurobench import NeuroBench, measure
from nmc.running import Progress, check_steps, run, runnable, steps_of

if TYPE_CHECKING:
    from nmc.quantize.fake import AwareNetwork

__all__ = [
    "FloatResult",
    "Joins",
    "analyse",
    "aware",
    "check",
    "chips",
    "compile",
    "convert",
    "diff",
    "evaluate",
    "export",
    "fit",
    "load",
    "neurobench",
    "read",
    "report",
    "run",
    "run_float",
    "tune",
    "verify",
]

Joins = Literal["auto", "distribute", "relay"]


def export(
    model: str | Path | OpGraph | Any,
    path: str | Path,
    **options: Any,
) -> None:
    """Write a model as a NIR file: standard primitives for every reader, all semantics for nmc.

    Args:
        model: see ``load``.
        path: of the file.
        options: of ``load``.

    Raises:
        NmcError: NMC-G05 for what NIR cannot say, NMC-W01 when the file cannot be written, those of ``load``.
    """
    write_nir(load(model, **options), path)


def convert(
    ann: str | Path | OpGraph | Any,
    data: npt.ArrayLike,
    steps: int,
    method: Method | str = "auto",
    *,
    chip: str | Chip = "loihi2",
    weights: str | Path | None = None,
    **choices: Any,
) -> OpGraph:
    """An ANN as a spiking network that computes with rates; the result goes to ``compile``.

    Args:
        ann: a torch module, ``file.py:function`` that builds one, or an OpGraph; ReLUs between weighted
            layers, batch norms, pools, sums and concatenations. It is not changed.
        data: calibration frames, (N, *shape); no labels.
        steps: T that the network will run.
        method: a name of ``frontend.conversion.method.METHODS`` (all chips: auto, max, percentile, hu, half,
            least-error), or a Method.
        chip: what it is for: resets and start values that the chip has not got are replaced where no
            choice asks for them.
        weights: a safetensors file for the module that a function builds.
        choices: fields of ``Method`` that are to differ, such as ``percentile=99.0``.

    Raises:
        NmcError: NMC-V02 naming the first layer where the import computes something else than the module,
            NMC-Q03 for a choice that the chip has not got, and those of ``frontend.convert.convert``.
    """
    target = chip if isinstance(chip, Chip) else load_chip(chip)
    if isinstance(ann, str | Path):
        if not is_builder(ann):
            raise NmcError("NMC-U02", str(ann), "is no ANN", "give a torch module or file.py:function")
        built = build(ann, weights)
        ann = built if isinstance(built, OpGraph) else built[0]
    elif weights is not None:
        raise NmcError("NMC-U02", "weights", "given without a builder", "load them into the module")
    frames = numbers("data", data)
    return to_spiking(ann, frames, check_steps(steps), for_chip(method, target, **choices))


def compile(
    model: str | Path | OpGraph | Network | Any,
    chip: str | Chip = "loihi2",
    data: npt.ArrayLike | None = None,
    *,
    profile: str | None = None,
    dt: float | None = None,
    weights: str | Path | None = None,
    steps: int | None = None,
    input_shape: Sequence[int] | None = None,
    weight_bits: int = 8,
    granularity: Granularity = "layer",
    layer_bits: Mapping[str, int] | None = None,
    joins: Joins = "auto",
    encoding: Encoding | str | None = None,
    optimize: Objective = "balanced",
    seed: int = 0,
    stop_after: str | None = None,
    observe: Callable[[PassDone], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Bundle:
    """Compile a model for a chip.

    Args:
        model, profile, dt, weights, input_shape: see ``load``; or a ``.net`` file of lava-dl, or a QUANTIZED
            network as ``AwareNetwork.export`` gives it: their numbers are kept (then all options about bits,
            joins and encoding are their own; only a ``.net`` file takes ``steps``).
        chip: name of a chip that ships with nmc, path of a chip file, or a Chip.
        data: calibration samples, (N, *shape) frames or (N, T, *shape) trains; at most 256 are used.
        steps: T; by default what the file says.
        weight_bits: 1 to 8; one of them is the sign, unless no weight is negative or there is but one.
        granularity: "layer", or "channel" for one scale per output channel, as far as the chip has
            thresholds for them.
        layer_bits: bits of single layers, by name; ``weight_bits`` for all others.
        joins: how SEW additions are lowered: "relay" (graded spikes), "distribute" (one projection per
            addend), "auto" (relay where the chip carries payloads).
        encoding: "graded" (frames) or "spikes" (trains); by default told from ``data``, else frames.
        optimize: what tiles are chosen for: few messages on hardly more than the fewest cores ("balanced"),
            the fewest cores, the least traffic between them, the fastest step, or the least energy for
            messages.
        seed: for the golden input when there are no data.
        stop_after: name of the last pass to run.
        observe: called after each pass.
        progress: called with (pass, done, all) within placement, the pass that can take long.

    Raises:
        NmcError: what the passes refuse; nothing is written.
    """
    target = chip if isinstance(chip, Chip) else load_chip(chip)
    _check_choice("objective", optimize, OBJECTIVES)
    if seed < 0:
        raise NmcError("NMC-U02", "seed", f"is {seed}", "use 0 or more", measured=seed, allowed=0)
    precision = Precision(weight_bits, granularity, layer_bits or {})
    if is_net(model):
        model = _integers(model, steps, profile=profile, dt=dt, weights=weights, encoding=encoding)
    # Calibration data count as a set: the bundle's bytes must not depend on their order.
    samples = None if data is None else calibrate.canonical(numbers("data", data))
    read_as = {"profile": profile, "dt": dt, "weights": weights, "input_shape": input_shape}
    network, origin = _lowered(model, target, samples, steps, joins, encoding, **read_as)
    calibration = None if samples is None else samples.astype(np.float64)
    if calibration is not None and network.stage is Stage.FLOAT:
        needed = calibrate.batch_bytes(network, len(calibration))
        memory.refuse_beyond_free(network, needed, what="calibration", remedy="use fewer steps")
    passes = pipeline(target, calibration, precision, optimize, progress)
    if isinstance(model, Network):
        passes = after_quantize(passes)
    network = run_passes(network, passes, stop_after=stop_after, observe=observe).with_(chip=target.name)
    config: dict[str, Any] = {
        **origin,
        "weight_bits": weight_bits,
        "granularity": granularity,
        "layer_bits": dict(precision.layer_bits),
        "optimize": optimize,
        "seed": seed,
        "calibration_samples": 0 if samples is None else min(len(samples), 256),
    }
    if network.stage < Stage.QUANTIZED:
        return Bundle(network=network, chip=target, config=config)
    arrays, counts = golden.record(network, samples, seed)
    note = f"activity and energy are those of the bundle's {counts.samples} golden samples"
    about = build_report(network, target, counts, config=config, notes=(note,))
    return Bundle(network=network, chip=target, config=config, golden=arrays, report=layout.data(about))


def fit(
    model: str | Path | OpGraph | Any,
    chip: str | Chip = "loihi2",
    *,
    profile: str | None = None,
    dt: float | None = None,
    weights: str | Path | None = None,
    steps: int | None = None,
    input_shape: Sequence[int] | None = None,
    weight_bits: int = 8,
    joins: Joins = "auto",
    encoding: Encoding | str | None = None,
    tradeoffs: bool = False,
) -> Fit:
    """Whether a model fits a chip, what binds each layer, and which changes would make it fit.

    Args: as ``compile``; no data are needed. The chip may be one of which only constraints are known
        (``nmc.constraints``): then what counts is the model as it is, not what nmc makes of it. tradeoffs:
        also what each objective of ``optimize`` would choose, and the ways between them.

    Raises:
        NmcError: for a model that cannot be read or that no chip could run; not for one that does not fit.
    """
    graph = load(model, profile, dt, weights=weights, steps=steps, input_shape=input_shape)
    known = None if isinstance(chip, Chip) else load_constraints(chip)
    if known is not None:
        return check_constraints(graph, known)
    target = chip if isinstance(chip, Chip) else load_chip(chip)
    t = check_steps(steps if steps is not None else graph.steps)
    kind = encoding_of(graph, None) if encoding is None else _encoding(encoding)
    _check_choice("lowering of joins", joins, get_args(Joins))
    return fitting.fit(
        graph,
        fitting.Setting(target, t, kind, weight_bits, None if joins == "auto" else joins),
        compare=tradeoffs,
    )


def _check_choice(what: str, given: str, known: Sequence[str]) -> None:
    """Raise NmcError NMC-U03 for a name that is none of the known ones."""
    if given not in known:
        raise NmcError("NMC-U03", str(given), f"is no {what}", f"known are: {', '.join(known)}")


def _encoding(given: Encoding | str) -> Encoding:
    """An encoding, which may be given by its name."""
    _check_choice("encoding", given, tuple(one.value for one in Encoding))
    return Encoding(given)


def _lowered(
    model: str | Path | OpGraph | Network | Any,
    target: Chip,
    samples: npt.NDArray[Any] | None,
    steps: int | None,
    joins: Joins,
    encoding: Encoding | str | None,
    **read_as: Any,
) -> tuple[Network, dict[str, Any]]:
    """The FLOAT network of a model (or the network itself), and how it was made; ``read_as``: of ``load``."""
    if isinstance(model, Network):
        if model.stage is not Stage.QUANTIZED:
            raise NmcError("NMC-U02", model.name, f"is a {model.stage.name} network", "give a QUANTIZED one")
        return model, {"steps": model.steps, "joins": "", "encoding": "", "profile": ""}
    graph = load(model, steps=steps, data=samples, **read_as)
    t = check_steps(steps if steps is not None else graph.steps)
    kind = encoding_of(graph, samples) if encoding is None else _encoding(encoding)
    _check_choice("lowering of joins", joins, get_args(Joins))
    lowering = ("relay" if target.payload_bits else "distribute") if joins == "auto" else joins
    network = lower(graph, t, lowering, kind)
    return network, {"steps": t, "joins": lowering, "encoding": kind.value, "profile": graph.profile}


def _integers(path: Any, steps: int | None, **options: object) -> Network:
    """The network of a ``.net`` file, which needs none of the options (NMC-U02)."""
    for name, value in options.items():
        if value is not None:
            raise NmcError("NMC-U02", name, "given for a .net file, which holds all of it", "leave it out")
    return load_net(path, None if steps is None else check_steps(steps))


def aware(
    model: str | Path | OpGraph | Any,
    chip: str | Chip,
    data: npt.ArrayLike,
    *,
    profile: str | None = None,
    dt: float | None = None,
    steps: int | None = None,
    weight_bits: int = 8,
    granularity: Granularity = "layer",
    layer_bits: Mapping[str, int] | None = None,
    joins: Joins = "auto",
    encoding: Encoding | str | None = None,
) -> AwareNetwork:
    """A torch module that computes what the chip will compute, to be fine-tuned; see ``quantize.aware``.

    The options are those of ``compile``. ``tune(module, x, y)`` trains it with a recipe that was measured.
    When trained: ``compile(module.export(), chip, data)``.

    Raises:
        NmcError: NMC-E01 without torch, and what the passes refuse.
    """
    from nmc.quantize.aware import aware as make

    target = chip if isinstance(chip, Chip) else load_chip(chip)
    samples = numbers("data", data)
    network, _ = _lowered(model, target, samples, steps, joins, encoding, profile=profile, dt=dt)
    precision = Precision(weight_bits, granularity, layer_bits or {})
    return make(network, target, samples.astype(np.float64), precision)


def analyse(
    model: str | Path | OpGraph | Any, chip: str | Chip, data: npt.ArrayLike, x: npt.ArrayLike, **options: Any
) -> tuple[LayerFit, ...]:
    """Compare the float network with its integers on ``x``, layer by layer, the worst first.

    Args:
        model, chip, data: as for ``compile``; ``options`` too.
        x: samples in the model's units.
    """
    timed, layers, _ = quantization_stages(model, chip, data, **options)
    samples = numbers("x", x).astype(np.float64)
    return compare_layers(timed, layers, samples, engine_by_name("auto"))


def quantization_stages(
    model: str | Path | OpGraph | Any, chip: str | Chip, data: npt.ArrayLike | None, **options: Any
) -> tuple[Network, Network, Network]:
    """A model before quantization, its layers as integers, and the integers that a chip runs.

    The last two differ where soft resets are loops, which have clocks besides the model's layers
    (``quantize/reset_loops.py``). Arguments as of ``compile``.
    """
    stages: dict[str, Network] = {}
    options = {**options, "observe": lambda done: stages.update({done.name: done.network})}
    compile(model, chip, data, stop_after="prove-ranges", **options)
    return stages["balance"], stages["quantize"], stages["prove-ranges"]


def read(path: str | Path | Bundle) -> Bundle:
    """Read a bundle; every checksum is verified first. One that has been read is passed on.

    Raises:
        NmcError: NMC-F01 a model that was not compiled yet, NMC-F06 broken, NMC-F07 of another schema.
    """
    return bundle_format.opened(path)


@dataclass(frozen=True)
class FloatResult:
    """The float network's answer: output (N, classes), classes (N,)."""

    output: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]


def run_float(
    model: str | Path | OpGraph | Any,
    x: npt.ArrayLike,
    steps: int | None = None,
    *,
    profile: str | None = None,
    dt: float | None = None,
    weights: str | Path | None = None,
) -> FloatResult:
    """Run the op graph in float64: what the framework computes, before any integer.

    Args:
        model, profile, dt, weights: see ``load``.
        x: samples in the model's units.
        steps: T; by default what the model says.
    """
    samples = numbers("x", x).astype(np.float64)
    graph = load(model, profile, dt, weights=weights, steps=steps, data=samples)
    graph.check_ends()
    result = float_engine.run(graph, samples, check_steps(steps if steps is not None else graph.steps))
    output = result.output.reshape(len(result.output), -1)
    return FloatResult(output, output.argmax(axis=1))


def verify(
    bundle: Bundle | str | Path,
    against: str = "lava-inprocess",
    samples: int = 3,
    *,
    engine: str = "reference",
    x: npt.ArrayLike | None = None,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Compare two engines bit by bit on the bundle's golden samples (then random ones), or on ``x``.

    Args:
        bundle: compiled at least to stage QUANTIZED; or its path.
        against: the engine that is tested: "lava-inprocess" is Lava's process models, "lava" its runtime.
        samples: N, the first ones of ``x`` (see ``run``).
        engine: the engine that is taken as right.
        steps: T; by default the network's.
        progress: called with (done, all) engines.

    Returns:
        Mismatches of spikes, u and v per population and the first divergence; ``bundle.with_verification``
        keeps it.
    """
    bundle = read(bundle)
    network = runnable(bundle)
    if samples < 1:
        raise NmcError("NMC-U02", "samples", f"is {samples}", "use at least 1", measured=samples, allowed=1)
    if x is not None:
        encoded = encode.encode(network, x)[:samples]
    else:
        encoded = golden.inputs(bundle.golden, network)[:samples]
        if len(encoded) < samples:
            encoded = np.concatenate([encoded, golden.random_input(network, samples - len(encoded), 1)])
    t = steps_of(network, steps)
    return compare(network, encoded, t, engine_by_name(engine), engine_by_name(against), progress)


def neurobench(
    model: Any,
    x: npt.ArrayLike | None = None,
    y: npt.ArrayLike | None = None,
    *,
    profile: str | None = None,
    dt: float | None = None,
    weights: str | Path | None = None,
    steps: int | None = None,
) -> NeuroBench:
    """NeuroBench's metrics of a model before any chip, under NeuroBench's names; see ``reports.neurobench``.

    Args:
        model: as for ``load``, or a torch module, whose own parameters and buffers are then counted.
        x, y: samples and labels; without samples there are static metrics only.
        profile, dt, weights, steps: see ``load``.
    """
    samples = None if x is None else numbers("x", x)
    labels = None if samples is None else checked_labels("labels", y, samples.shape)
    graph = load(model, profile, dt, weights=weights, steps=steps, data=samples)
    if isinstance(model, str | Path | OpGraph):
        return measure(graph, x, labels, steps)
    parameters = [one.numel() for one in model.parameters()]
    held = [one.numel() * one.element_size() for one in (*model.parameters(), *model.buffers())]
    return measure(graph, samples, labels, steps, (sum(parameters), sum(held)))


def report(bundle: Bundle | str | Path, trace: Trace | None = None, **facts: Any) -> Report:
    """Per-layer report; see ``report.build.build_report`` for ``facts`` such as ``accuracy``."""
    bundle = read(bundle)
    if trace is not None:
        facts = {"counts": trace.counts, "spikes": trace.spikes, **facts}
    return build_report(bundle.network, bundle.chip, config=bundle.config, verified=bundle.verified, **facts)


def check(path: str | Path) -> list[Finding]:
    """Every finding on a model or bundle file, worst first; empty when nothing is wrong.

    A bundle's reader and the checker of its mapping stop at their first finding.
    """
    path = Path(path)
    if path.suffix != ".nmc" and not bundle_format.is_bundle(path):
        return check_file(path)
    try:
        bundle = read(path)
        if bundle.network.mapping is not None:
            check_mapping(bundle.network, bundle.chip)
    except NmcError as error:
        return [Finding.of(error)]
    return []


def chips() -> tuple[str, ...]:
    """Names of the chips that ship with nmc."""
    return chip_names()
