"""Commands that make something of a model: compile, fit, sweep, analyse, export, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmc.cli.options import (
    ChipOption,
    DtOption,
    ExportKind,
    ForceOption,
    FormatOption,
    Granularity,
    GranularityOption,
    Joins,
    ModelArgument,
    Objective,
    ProfileOption,
    Samples,
    StepsOption,
    WeightsOption,
    refuse_reading,
)
from nmc.cli.settings import use_config
from nmc.console import Format, emit
from nmc.errors import EXIT_DOES_NOT_FIT, EXIT_OK


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


def compile_(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .nir or .net file, or file.py:function.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The bundle to write.")] = None,
    chip: ChipOption = "loihi2",
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
            metavar="TOML",
            is_eager=True,
            callback=use_config,
            help="Options from table compile of a file; by default the nearest nmc.toml or pyproject.toml.",
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


def fit(
    model: ModelArgument,
    chip: ChipOption = "loihi2",
    profile: ProfileOption = None,
    dt: DtOption = None,
    weights: WeightsOption = None,
    steps: StepsOption = None,
    weight_bits: Annotated[int, typer.Option(help="Bits per weight, 1 to 8.")] = 8,
    joins: Annotated[Joins, typer.Option(help="How residual additions are lowered.")] = Joins.AUTO,
    tradeoffs: Annotated[
        bool, typer.Option("--tradeoffs", help="Compare what each --optimize of nmc compile would choose.")
    ] = False,
    how: FormatOption = Format.TEXT,
) -> int:
    """Say whether a model fits a chip, what binds each layer, and what would make it fit (status 4: no)."""
    from nmc import api
    from nmc.reports.fit import document

    found = api.fit(
        model,
        chip,
        profile=profile,
        dt=dt,
        weights=weights,
        steps=steps,
        weight_bits=weight_bits,
        joins=joins.value,
        tradeoffs=tradeoffs,
    )
    emit(document(found), how)
    return EXIT_OK if found.fits else EXIT_DOES_NOT_FIT


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
        refuse_reading(f"--to {to.value}", profile=profile, dt=dt, weights=weights)
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


def sweep(
    model: ModelArgument,
    samples: Annotated[Path, typer.Option("--input", "-i", metavar="NPZ", help="x, and y for accuracy.")],
    calibration: Annotated[Path | None, typer.Option(metavar="NPZ", help="Samples x, (N, ...).")] = None,
    chip: ChipOption = "loihi2",
    weight_bits: Annotated[str, typer.Option(metavar="RANGE", help="Such as 2..8 or 4,8.")] = "2..8",
    steps: Annotated[
        str | None, typer.Option(metavar="RANGE", help="Such as 4,8; by default what the model says.")
    ] = None,
    granularity: Annotated[
        str, typer.Option(metavar="layer,channel", help="What shares one scale: one of them, or both.")
    ] = "layer",
    profile: ProfileOption = None,
    dt: DtOption = None,
    weights: WeightsOption = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw it; needs matplotlib.")] = None,
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
        "weights": weights,
    }
    with Reporter() as progress:
        document = commands.sweep_model(model, samples, calibration, chip, options, plot, force, progress)
    emit(document, how)


def analyse(
    model: ModelArgument,
    samples: Annotated[Path, typer.Option("--input", "-i", metavar="NPZ", help="x, and y for accuracy.")],
    calibration: Annotated[Path | None, typer.Option(metavar="NPZ", help="Samples x, (N, ...).")] = None,
    chip: ChipOption = "loihi2",
    weight_bits: Annotated[int, typer.Option(help="Bits per weight, 1 to 8.")] = 8,
    granularity: GranularityOption = Granularity.LAYER,
    layer_bits: Annotated[str, typer.Option(metavar="LAYER=BITS,...", help="Bits of single layers.")] = "",
    steps: StepsOption = None,
    profile: ProfileOption = None,
    dt: DtOption = None,
    weights: WeightsOption = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw it; needs matplotlib.")] = None,
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
        "weights": weights,
    }
    emit(analyse_files(model, samples, calibration, plot, force, **options), how)
