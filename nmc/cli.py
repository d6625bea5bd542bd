"""The command line: a thin layer over ``api``. Results on stdout, progress and refusals on stderr.

Heavy imports stand inside the commands, so that help and usage errors come at once.
"""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nmc import __version__
from nmc.console import Format, emit, nearest, run_guarded
from nmc.errors import CATALOGUE, EXIT_DOES_NOT_FIT, EXIT_NO_ENGINE, EXIT_OK, NmcError

app = typer.Typer(
    help="Compile trained spiking networks to Loihi-class chips, run them bit-exactly, report the cost.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How the result is printed.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace an existing file of another kind.")]
StepsOption = Annotated[int | None, typer.Option(metavar="T", help="Time steps per sample.")]
JunitOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the checks as JUnit XML too.")]
BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle that nmc compile wrote.")]


class Samples(str, enum.Enum):
    """What a sample is: one frame, repeated as a constant input, or a train with an entry per step."""

    FRAMES = "frames"
    SPIKES = "spikes"


class Objective(str, enum.Enum):
    """What tiles and cores are chosen for."""

    BALANCED = "balanced"
    CORES = "cores"
    TRAFFIC = "traffic"
    SPEED = "speed"
    ENERGY = "energy"


class Granularity(str, enum.Enum):
    """What shares one scale: a layer, or each of its output channels."""

    LAYER = "layer"
    CHANNEL = "channel"


class Joins(str, enum.Enum):
    """How SEW additions are lowered."""

    AUTO = "auto"
    DISTRIBUTE = "distribute"
    RELAY = "relay"


class ExportKind(str, enum.Enum):
    """What is written: a folder with a Python script for Lava, a file for lava-dl's netx, a NIR file, test
    vectors for one, or the graph of cores."""

    LAVA = "lava"
    NET = "net"
    NIR = "nir"
    NIRDATA = "nirdata"
    CORES = "cores"


ProfileOption = Annotated[
    str | None,
    typer.Option(
        help="Framework the weights were trained with, where a NIR file does not say: nir, snntorch, "
        "snntorch-zero, norse, sinabs or spikingjelly."
    ),
]
DtOption = Annotated[float | None, typer.Option(metavar="S", help="Seconds per time step.")]
WeightsOption = Annotated[
    Path | None, typer.Option(metavar="SAFETENSORS", help="Weights of the module that a function builds.")
]
GranularityOption = Annotated[
    Granularity, typer.Option(help="One scale per layer, or per channel as far as the chip has thresholds.")
]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"nmc {__version__}")
        raise typer.Exit


def _use_config(context: typer.Context, path: Path | None) -> Path | None:
    """Options that the command line leaves out take the file's values."""
    if path is not None and not context.resilient_parsing:
        from nmc.config import read_config

        context.default_map = read_config(path)
    return path


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show the Python traceback of a failure; allowed anywhere.")
    ] = False,
) -> None:
    """Exit codes: 0 ok, 1 gate or verification failed, 2 usage, 3 bad input, 4 does not fit the chip,
    5 engine not available, 6 cannot write or out of memory, 70 internal error, 130 interrupted."""


@app.command(epilog="Example: nmc demo --out nmc-demo")
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything the demo writes.")] = Path(
        "nmc-demo"
    ),
    how: FormatOption = Format.TEXT,
) -> None:
    """Compile, run, verify and report a trained SEW-ResNet on real handwritten digits."""
    from nmc.demo import run_demo
    from nmc.progress import Reporter

    with Reporter() as progress:
        document = run_demo(out, progress)
    emit(document, how)


@app.command(
    "compile", epilog="Example: nmc compile model.nir -o model.nmc --chip loihi2 --calibration x.npz"
)
def compile_(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .nir or .net file, or file.py:function.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The bundle to write.")] = None,
    chip: Annotated[str, typer.Option(help="A chip's name (nmc chips) or a chip file.")] = "loihi2",
    profile: ProfileOption = None,
    dt: DtOption = None,
    weights: WeightsOption = None,
    convert: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="Convert an ANN first: auto, max, percentile, hu, half or least-error. Example: "
            "nmc compile net.py:build --weights net.safetensors --convert auto --steps 8 "
            "--calibration x.npz -o net.nmc",
        ),
    ] = None,
    steps: StepsOption = None,
    calibration: Annotated[Path | None, typer.Option(metavar="NPZ", help="Samples x, (N, ...).")] = None,
    encoding: Annotated[
        Samples | None, typer.Option(help="What a sample is; by default told from the calibration data.")
    ] = None,
    weight_bits: Annotated[int, typer.Option(help="Bits per weight, 1 to 8.")] = 8,
    layer_bits: Annotated[
        str, typer.Option(metavar="LAYER=BITS,...", help="Bits per weight of single layers.")
    ] = "",
    granularity: GranularityOption = Granularity.LAYER,
    joins: Annotated[Joins, typer.Option(help="How residual additions are lowered.")] = Joins.AUTO,
    optimize: Annotated[Objective, typer.Option(help="What the mapping is made for.")] = Objective.BALANCED,
    seed: Annotated[int, typer.Option(help="For the golden input when there are no samples.")] = 0,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="TOML", is_eager=True, callback=_use_config, help="Options from [compile] of a file."
        ),
    ] = None,
    stop_after: Annotated[str | None, typer.Option(metavar="PASS", help="Stop there; no bundle.")] = None,
    print_after: Annotated[
        str | None, typer.Option(metavar="PASS", help="Show the network on stderr.")
    ] = None,
    time_passes: Annotated[bool, typer.Option("--time-passes", help="Say how long each pass took.")] = False,
    force: ForceOption = False,
    how: FormatOption = Format.TEXT,
) -> None:
    """Compile a model for a chip and write one deterministic bundle."""
    from nmc import commands
    from nmc.ir import Encoding
    from nmc.progress import Reporter
    from nmc.quantize.precision import parse_layer_bits

    encodings = {None: None, Samples.FRAMES: Encoding.GRADED, Samples.SPIKES: Encoding.SPIKES}
    options = {
        "chip": chip,
        "profile": profile,
        "dt": dt,
        "weights": weights,
        "convert": convert,
        "steps": steps,
        "encoding": encodings[encoding],
        "weight_bits": weight_bits,
        "layer_bits": parse_layer_bits(layer_bits),
        "granularity": granularity.value,
        "joins": joins.value,
        "optimize": optimize.value,
        "seed": seed,
        "stop_after": stop_after,
    }
    with Reporter() as progress:
        document = commands.compile_model(
            model,
            out,
            calibration,
            options,
            progress,
            force=force,
            print_after=print_after,
            timed=time_passes,
        )
    emit(document, how)


@app.command(epilog="Example: nmc run model.nmc -i test.npz --record all -o trace.npz")
def run(
    model: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle; a model with --engine float.")],
    samples: Annotated[Path, typer.Option("--input", "-i", metavar="NPZ", help="x, and y if known.")],
    engine: Annotated[str, typer.Option(help="auto, reference, native, lava, ... or float.")] = "auto",
    steps: StepsOption = None,
    record: Annotated[str, typer.Option(metavar="LAYER,...", help="Layers to keep, or all.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="NPZ", help="The trace to write.")
    ] = None,
    force: ForceOption = False,
    how: FormatOption = Format.TEXT,
) -> None:
    """Run samples; print accuracy (where y is known), event counts and energy."""
    from nmc import commands
    from nmc.progress import Reporter

    layers = tuple(name for name in record.split(",") if name)
    with Reporter() as progress:
        document = commands.run_model(model, samples, engine, steps, layers, out, force, progress)
    emit(document, how)


@app.command(epilog="Example: nmc evaluate model.nmc -i test.npz --journal test.jsonl")
def evaluate(
    bundle: BundleArgument,
    samples: Annotated[Path, typer.Option("--input", "-i", metavar="NPZ", help="x, and y for accuracy.")],
    engine: Annotated[str, typer.Option(help="auto, reference, native, lava, ...")] = "auto",
    steps: StepsOption = None,
    journal: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep what is done there; a second start goes on from it."),
    ] = None,
    how: FormatOption = Format.TEXT,
) -> None:
    """Run a data set of any size in bounded memory: accuracy, answers per class, event counts, energy."""
    from nmc import commands
    from nmc.progress import Reporter

    with Reporter() as progress:
        document = commands.evaluate_bundle(bundle, samples, engine, steps, journal, progress)
    emit(document, how)


@app.command(epilog="Example: nmc verify model.nmc --runtime --samples 3")
def verify(
    bundle: BundleArgument,
    against: Annotated[
        str, typer.Option(help="The engine to compare with, or golden: what the bundle itself holds.")
    ] = "lava-inprocess",
    runtime: Annotated[
        bool, typer.Option("--runtime", help="Compare with Lava's runtime: --against lava.")
    ] = False,
    engine: Annotated[
        str | None, typer.Option(help="The engine that is taken as right (reference), or held to the golden.")
    ] = None,
    samples: Annotated[int, typer.Option(help="How many samples.")] = 3,
    data: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="NPZ", help="Samples; by default the bundle's own."),
    ] = None,
    steps: StepsOption = None,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Keep the result in the bundle, for the report.")
    ] = True,
    how: FormatOption = Format.TEXT,
) -> int:
    """Compare two engines bit by bit; exit status 1 and the first divergence where they differ."""
    from nmc.progress import Reporter
    from nmc.verifying import replay_bundle, verify_bundle

    if runtime and against not in ("lava", "lava-inprocess"):
        raise NmcError("NMC-U02", "runtime", f"given together with --against {against}", "give one of them")
    if against == "golden":
        document, failure = replay_bundle(bundle, engine or "auto")
        emit(document, how)
        if failure is not None:
            raise failure
        return EXIT_OK
    against = "lava" if runtime else against
    with Reporter() as progress:
        document, failure = verify_bundle(
            bundle, engine or "reference", against, samples, data, steps, record, progress
        )
    emit(document, how)
    if failure is not None:
        raise failure
    return EXIT_OK


@app.command(epilog="Example: nmc report model.nmc --trace trace.npz --format md -o report.md")
def report(
    bundle: BundleArgument,
    trace: Annotated[Path | None, typer.Option(metavar="NPZ", help="A trace that nmc run wrote.")] = None,
    constants: Annotated[str | None, typer.Option(help="The energy set that prices the layers.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write there instead of stdout.")] = None,
    force: ForceOption = False,
    how: FormatOption = Format.TEXT,
) -> None:
    """Per layer: neurons, synapses, cores, memory, latency; with a trace also spikes, operations, energy."""
    from nmc import commands
    from nmc.console import render

    if out is not None:
        commands.check_output(out, force, (bundle,) if trace is None else (bundle, trace))
    document = commands.report_bundle(bundle, trace, constants, drawn=how is Format.HTML)
    if out is None:
        emit(document, how)
    else:
        commands.write_text(out, render(document, how))


@app.command(epilog="Example: nmc diff main.nmc branch.nmc --gate energy=+5% --gate cores=+0")
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A bundle, or a JSON report of one.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="What it is compared with.")],
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=LIMIT", help="Such as energy=+5%, accuracy=-0.5pp or cores=+0; again for more."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="TOML", help="More gates, from [gates] of a file.")
    ] = None,
    junit: JunitOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write there instead of stdout.")] = None,
    force: ForceOption = False,
    how: FormatOption = Format.TEXT,
) -> int:
    """Say what changed between two builds; exit status 1 where a gate fails."""
    from nmc import commands
    from nmc.console import render

    if out is not None:
        commands.check_output(out, force, (old, new))
    if junit is not None:
        commands.check_output(junit, force, (old, new))
    found, failure = commands.diff_builds(old, new, gate or [], config)
    if junit is not None:
        commands.write_text(junit, found.to_junit())
    if out is None:
        emit(found.document(), how)
    else:
        commands.write_text(out, render(found.document(), how))
    if failure is not None:
        raise failure
    return EXIT_OK


@app.command(epilog="Example: nmc check model.nir --sarif findings.sarif")
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help=".nir, .net or .nmc files.")],
    sarif: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the findings as SARIF too.")
    ] = None,
    junit: JunitOption = None,
    force: ForceOption = False,
    how: FormatOption = Format.TEXT,
) -> int:
    """List everything that is wrong with files, all findings at once."""
    from nmc import commands

    for path in (sarif, junit):
        if path is not None:
            commands.check_output(path, force, files)
    found = commands.check_files(files)
    if sarif is not None:
        commands.write_text(sarif, found.to_sarif())
    if junit is not None:
        commands.write_text(junit, found.to_junit())
    emit(found.document, how)
    return found.status


@app.command(epilog="Example: nmc chips loihi1")
def chips(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show one chip in full.")] = None,
    how: FormatOption = Format.TEXT,
) -> None:
    """List the chips that nmc knows, or one chip's limits and where each number comes from."""
    from nmc import commands

    emit(commands.list_chips() if name is None else commands.show_chip(name), how)


@app.command(epilog="Example: nmc fit model.nir --chip loihi1:nahuku-32")
def fit(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .nir file.")],
    chip: Annotated[
        str, typer.Option(help="A chip's name (nmc chips), with :board, or a chip file.")
    ] = "loihi2",
    profile: ProfileOption = None,
    dt: DtOption = None,
    steps: StepsOption = None,
    weight_bits: Annotated[int, typer.Option(help="Bits per weight, 1 to 8.")] = 8,
    joins: Annotated[Joins, typer.Option(help="How residual additions are lowered.")] = Joins.AUTO,
    how: FormatOption = Format.TEXT,
) -> int:
    """Say whether a model fits a chip, what binds each layer, and what would make it fit (status 4: no)."""
    from nmc import api
    from nmc.reports.fit import document

    found = api.fit(
        model, chip, profile=profile, dt=dt, steps=steps, weight_bits=weight_bits, joins=joins.value
    )
    emit(document(found), how)
    return EXIT_OK if found.fits else EXIT_DOES_NOT_FIT


@app.command(epilog="Example: nmc export model.nmc --to lava -o for-lava")
def export(
    source: Annotated[Path, typer.Argument(metavar="X", help="A bundle; a model with --to nir or nirdata.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder, or the file, to write.")],
    to: Annotated[
        ExportKind,
        typer.Option(
            help="lava: a script for Lava alone; net: a chain as a .net file; nir: a model as a NIR file; "
            "nirdata: input and spikes of every layer as NIR test vectors; "
            "cores: the core graph of a bundle as .json or .graphml."
        ),
    ] = ExportKind.LAVA,
    data: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="NPZ", help="Samples; a bundle's own if none."),
    ] = None,
    samples: Annotated[int, typer.Option(help="How many samples are used.")] = 3,
    profile: ProfileOption = None,
    dt: DtOption = None,
    weights: WeightsOption = None,
    steps: StepsOption = None,
    force: ForceOption = False,
    how: FormatOption = Format.TEXT,
) -> None:
    """Write a bundle for Lava, where it runs without nmc, bit for bit the same; or a model as a NIR file."""
    from nmc import exporting

    if to in (ExportKind.LAVA, ExportKind.NET, ExportKind.CORES):
        for name, given in (("profile", profile), ("dt", dt), ("weights", weights)):
            if given is not None:
                raise NmcError(
                    "NMC-U02", name, f"given with --to {to.value}, which takes a bundle", "leave it out"
                )
        if to is ExportKind.CORES:
            emit(exporting.export_cores(source, out, force), how)
        else:
            emit(exporting.export_bundle(source, to.value, out, data, samples, steps, force), how)
        return
    model = exporting.Source(source, profile, dt, weights, steps)
    if to is ExportKind.NIR:
        emit(exporting.export_model(model, out, force), how)
    else:
        emit(exporting.export_vectors(model, out, data, samples, force), how)


@app.command(epilog="Example: nmc doctor --format json")
def doctor(how: FormatOption = Format.TEXT) -> int:
    """Say what is installed, which engines can run, and the remedy for what is missing."""
    from nmc.doctor import diagnose, document

    checks = diagnose()
    emit(document(checks), how)
    return EXIT_OK if all(one.ok for one in checks if one.required) else EXIT_NO_ENGINE


@app.command(epilog="Example: nmc explain NMC-P03")
def explain(
    code: Annotated[str | None, typer.Argument(metavar="[CODE]", help="Such as NMC-P03.")] = None,
    how: FormatOption = Format.TEXT,
) -> None:
    """Say what an error code means; without a code, list them all."""
    from nmc.reports.document import Document, table_of

    wanted = list(CATALOGUE) if code is None else [code.upper()]
    if wanted[0] not in CATALOGUE:
        raise NmcError("NMC-U03", wanted[0], "is no error code", nearest(wanted[0], CATALOGUE))
    entries = [(name, CATALOGUE[name]) for name in wanted]
    rows = [(name, str(one.exit_status), one.title, one.explanation) for name, one in entries]
    codes = [
        {"code": name, "exit_status": one.exit_status, "title": one.title, "explanation": one.explanation}
        for name, one in entries
    ]
    titles = ("code", "exit status", "title", "meaning")
    if code is not None:
        emit(Document("explain", {"codes": codes}, (), tuple(zip(titles, rows[0], strict=True))), how)
    else:
        emit(Document("explain", {"codes": codes}, (table_of("", titles, rows),)), how)


@app.command(epilog="Example: nmc sweep model.nir -i test.npz --calibration x.npz --weight-bits 2..8")
def sweep(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .nir file.")],
    samples: Annotated[Path, typer.Option("--input", "-i", metavar="NPZ", help="x, and y for accuracy.")],
    calibration: Annotated[Path | None, typer.Option(metavar="NPZ", help="Samples x, (N, ...).")] = None,
    chip: Annotated[str, typer.Option(help="A chip's name (nmc chips) or a chip file.")] = "loihi2",
    weight_bits: Annotated[str, typer.Option(metavar="RANGE", help="Such as 2..8 or 4,8.")] = "2..8",
    steps: Annotated[
        str | None, typer.Option(metavar="RANGE", help="Such as 4,8; by default what the model says.")
    ] = None,
    granularity: Annotated[
        str, typer.Option(metavar="layer,channel", help="What shares one scale: one of them, or both.")
    ] = "layer",
    profile: ProfileOption = None,
    dt: DtOption = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw it; needs nmc[plot].")] = None,
    force: ForceOption = False,
    how: FormatOption = Format.TEXT,
) -> None:
    """Compile and run a model at many bit widths and steps: accuracy, cores, memory, energy, Pareto front."""
    from nmc import commands
    from nmc.progress import Reporter
    from nmc.sweep import parse_granularities, parse_range

    options = {
        "weight_bits": parse_range(weight_bits, "weight_bits"),
        "steps": [None] if steps is None else parse_range(steps, "steps"),
        "granularities": parse_granularities(granularity),
        "profile": profile,
        "dt": dt,
    }
    with Reporter() as progress:
        document = commands.sweep_model(model, samples, calibration, chip, options, plot, force, progress)
    emit(document, how)


@app.command(epilog="Example: nmc analyse model.nir -i test.npz --calibration x.npz --weight-bits 4")
def analyse(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .nir file.")],
    samples: Annotated[Path, typer.Option("--input", "-i", metavar="NPZ", help="x, and y for accuracy.")],
    calibration: Annotated[Path | None, typer.Option(metavar="NPZ", help="Samples x, (N, ...).")] = None,
    chip: Annotated[str, typer.Option(help="A chip's name (nmc chips) or a chip file.")] = "loihi2",
    weight_bits: Annotated[int, typer.Option(help="Bits per weight, 1 to 8.")] = 8,
    granularity: GranularityOption = Granularity.LAYER,
    layer_bits: Annotated[str, typer.Option(metavar="LAYER=BITS,...", help="Bits of single layers.")] = "",
    steps: StepsOption = None,
    profile: ProfileOption = None,
    dt: DtOption = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw it; needs nmc[plot].")] = None,
    force: ForceOption = False,
    how: FormatOption = Format.TEXT,
) -> None:
    """Compare float and integers layer by layer, the worst first: SNR, firing rates, cosine of trains."""
    from nmc.analysis import analyse_files
    from nmc.quantize.precision import parse_layer_bits

    options = {
        "chip": chip,
        "weight_bits": weight_bits,
        "granularity": granularity.value,
        "layer_bits": parse_layer_bits(layer_bits),
        "steps": steps,
        "profile": profile,
        "dt": dt,
    }
    emit(analyse_files(model, samples, calibration, plot, force, **options), how)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status; every failure is one line on stderr.

    Args:
        argv: the arguments without the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    show_traceback = "--traceback" in arguments
    arguments = [one for one in arguments if one != "--traceback"] or ["--help"]
    command = typer.main.get_command(app)
    if "_NMC_COMPLETE" in os.environ:
        command.main(arguments, prog_name="nmc")  # prints what the shell asked for and exits

    def invoke() -> object:
        # Not command.main: it has its own ideas about Ctrl-C, closed pipes and usage errors.
        try:
            with command.make_context("nmc", arguments) as context:
                return command.invoke(context)
        except typer.Exit as done:
            return done.exit_code

    return run_guarded(invoke, show_traceback=show_traceback)
