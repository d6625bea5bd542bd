"""``nmc export``: from a bundle to files that other tools run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from nmc import api, atomic, golden
from nmc.backends import encode
from nmc.backends.engines import engine as engine_by_name
from nmc.backends.loihi import export, netx
from nmc.bundle import Bundle, is_bundle
from nmc.errors import NmcError
from nmc.frontend.nir_data import Observables, binary, vectors_of, write_vectors
from nmc.frontend.nir_write import DT, node_name
from nmc.frontend.opgraph import OpGraph
from nmc.ir import IntArray
from nmc.npzfiles import read_samples
from nmc.partition.graph import core_graph, to_graphml, to_json
from nmc.reports.document import Document
from nmc.running import check_steps, runnable, steps_of


def export_bundle(
    path: Path, kind: str, out: Path, data: Path | None, samples: int, steps: int | None, force: bool
) -> Document:
    """Write a bundle for Lava alone; schema ``nmc.export/1``.

    Args:
        kind: "lava", a folder with a script and its arrays; "net", one file for lava-dl's netx.
        out: that folder or file.
        data: samples for the script; by default the bundle's own.
        samples: how many of them.
        steps: T; by default the network's.
        force: replace what is there.

    Raises:
        NmcError: NMC-Q03 for what the format has not got, NMC-W01, NMC-D* for the data.
    """
    bundle = api.read(path)
    network = runnable(bundle)
    if kind == "net":
        atomic.ensure_writable(out, force=force, inputs=(path,))
        netx.write_net(network, out)
        files: tuple[Path, ...] = (out,)
        hint = f"netx.hdf5.Network({str(out)!r}, reset_interval=T, reset_offset={netx.OFFSET})"
    else:
        _check_folder(out, force)
        t = steps_of(network, steps)
        x = _samples(bundle, data, samples)
        files = export.export_lava(network, x, t, out)
        hint = f"python {out / export.SCRIPT}"
    members = {"to": kind, "files": [str(file) for file in files], "run": hint}
    facts = (("written", f"{out} ({len(files)} files)"), ("run it", hint))
    return Document("export", members, (), facts)


def export_cores(path: Path, out: Path, force: bool) -> Document:
    """Write the core graph of a bundle, spikes per inference by its golden samples; schema ``nmc.export/1``.

    Raises:
        NmcError: NMC-W01, and NMC-U02 for an ending that is neither ``.json`` nor ``.graphml``, or a bundle
            without a mapping.
    """
    writers = {".json": to_json, ".graphml": to_graphml}
    if out.suffix not in writers:
        raise NmcError("NMC-U02", str(out), "ends neither in .json nor in .graphml", "name such a file")
    atomic.ensure_writable(out, force=force, inputs=(path,))
    bundle = api.read(path)
    if bundle.network.mapping is None:
        raise NmcError("NMC-U02", str(path), "has no mapping, and so no cores", "compile it fully")
    x = golden.inputs(bundle.golden, bundle.network)
    counts = engine_by_name("reference").run(bundle.network, x, bundle.network.steps).counts
    cores = core_graph(bundle.network, {name: n / counts.samples for name, n in counts.spikes.items()})
    atomic.atomic_write(out, writers[out.suffix](cores, bundle.network).encode())
    members = {"to": "cores", "files": [str(out)], "cores": len(cores.cores), "edges": len(cores.spikes)}
    facts = (("written", str(out)), ("graph", f"{len(cores.cores):,} cores, {len(cores.spikes):,} edges"))
    return Document("export", members, (), facts)


@dataclass(frozen=True)
class Source:
    """A model on the command line: its path and the options of ``api.load``."""

    path: Path
    profile: str | None = None
    dt: float | None = None
    weights: Path | None = None
    steps: int | None = None

    def load(self) -> OpGraph:
        """Raises NmcError as ``api.load``."""
        graph = api.load(self.path, self.profile, self.dt, weights=self.weights, steps=self.steps)
        return graph if self.steps is None else graph.with_(steps=check_steps(self.steps))


def export_model(source: Source, out: Path, force: bool) -> Document:
    """Write a model (a ``.nir`` file or ``file.py:function``) as a NIR file; schema ``nmc.export/1``.

    Raises:
        NmcError: those of ``api.export``.
    """
    inputs = [path for path in (source.path, source.weights) if path is not None]
    atomic.ensure_writable(out, force=force, inputs=inputs)
    if is_bundle(source.path):
        problem = "is a bundle, whose integers no NIR node states"
        raise NmcError("NMC-U02", str(source.path), problem, "give the model that it was compiled from")
    api.export(source.load(), out)
    hint = f"nmc compile {out}"
    members = {"to": "nir", "files": [str(out)], "run": hint}
    return Document("export", members, (), (("written", str(out)), ("compile it", hint)))


def export_vectors(source: Source, out: Path, data: Path | None, samples: int, force: bool) -> Document:
    """Write the input and what every layer sends as NIR test vectors; schema ``nmc.export/1``.

    A bundle's are the chip's integers, in the time that all layers share; a model's are its float network's,
    and the nodes are called as in the file that ``export_model`` writes.

    Raises:
        NmcError: NMC-U01 for a model without data, NMC-U02 for options of a model given with a bundle, those
            of ``api.load`` and ``api.run``, NMC-W01.
    """
    dt = DT if source.dt is None else source.dt
    if not (math.isfinite(dt) and dt > 0):
        raise NmcError("NMC-U02", "dt", f"{dt:g} s", "give a positive number of seconds")
    inputs = [path for path in (source.path, source.weights, data) if path is not None]
    atomic.ensure_writable(out, force=force, inputs=inputs)
    if is_bundle(source.path):
        if source.profile is not None or source.weights is not None:
            raise NmcError(
                "NMC-U02", str(source.path), "is a bundle, which says what it is", "give no profile"
            )
        found = _bundle_vectors(api.read(source.path), data, samples, source.steps)
    else:
        if data is None:
            raise NmcError("NMC-U01", "nmc export", "--input is missing", "say what the model gets: -i x.npz")
        graph = source.load()
        found = vectors_of(graph, read_samples(data).x[: _positive(samples)], check_steps(graph.steps))
    write_vectors(found, dt, out)
    hint = f"nir.read_data({str(out)!r})"
    members = {"to": "nirdata", "files": [str(out)], "run": hint, "nodes": list(found)}
    facts = (("written", str(out)), ("nodes", ", ".join(found)), ("read it", hint))
    return Document("export", members, (), facts)


def _bundle_vectors(bundle: Bundle, data: Path | None, samples: int, steps: int | None) -> Observables:
    """Layer -> what the chip's integers are, in the user's time."""
    network = runnable(bundle)
    x = _samples(bundle, data, samples)
    t = steps_of(network, steps)
    names = [population.name for population in network.compute]
    trace = engine_by_name("auto").run(network, x, t, names)
    (source,) = network.inputs
    found = {node_name(source.label, ()): {"input": binary(encode.train_of(network, x, t))}}
    for name in names:
        fires = getattr(network[name].neuron, "vth", True) is not None
        array = trace.spikes[name] if fires else trace.v[name]
        found[node_name(name, found)] = {"spikes" if fires else "v": binary(array)}
    return found


def _check_folder(folder: Path, force: bool) -> None:
    """Refuse (NMC-W01) a file, and a folder with anything in it, unless an earlier export made it."""
    ours = (folder / export.SCRIPT).is_file() and (folder / "expected.npz").is_file()
    if folder.exists() and not folder.is_dir():
        raise NmcError("NMC-W01", str(folder), "is a file", "name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (ours or force):
        raise NmcError("NMC-W01", str(folder), "is a folder with other files", "use --force to add to it")


def _samples(bundle: Bundle, data: Path | None, samples: int) -> IntArray:
    if data is None:
        return golden.inputs(bundle.golden, bundle.network)[: _positive(samples)]
    return encode.encode(bundle.network, read_samples(data).x)[: _positive(samples)]


def _positive(samples: int) -> int:
    if samples < 1:
        raise NmcError("NMC-U02", "samples", f"is {samples}", "use at least 1", measured=samples, allowed=1)
    return samples
