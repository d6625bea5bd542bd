"""``nmc export``: from a bundle to files that other tools run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nmc import api, atomic
from nmc.backends import encode
from nmc.backends.loihi import export, netx
from nmc.bundle import Bundle
from nmc.errors import NmcError
from nmc.ir import IntArray
from nmc.npzfiles import read_samples
from nmc.reports.document import Document


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
    network = bundle.network
    if kind == "net":
        atomic.ensure_writable(out, force=force, inputs=(path,))
        netx.write_net(network, out)
        files: tuple[Path, ...] = (out,)
        hint = f"netx.hdf5.Network({str(out)!r}, reset_interval=T, reset_offset={netx.OFFSET})"
    else:
        _check_folder(out, force)
        t = network.steps if steps is None else steps
        x = _samples(bundle, data, samples)
        files = export.export_lava(network, x, t, out)
        hint = f"python {out / export.SCRIPT}"
    members = {"to": kind, "files": [str(file) for file in files], "run": hint}
    facts = (("written", f"{out} ({len(files)} files)"), ("run it", hint))
    return Document("export", members, (), facts)


def export_model(model: Path, out: Path, steps: int | None, force: bool) -> Document:
    """Write a model (a ``.nir`` file or ``file.py:function``) as a NIR file; schema ``nmc.export/1``.

    Raises:
        NmcError: those of ``api.export``.
    """
    atomic.ensure_writable(out, force=force, inputs=(model,))
    api.export(model, out, steps=steps)
    hint = f"nmc compile {out}"
    members = {"to": "nir", "files": [str(out)], "run": hint}
    return Document("export", members, (), (("written", str(out)), ("compile it", hint)))


def _check_folder(folder: Path, force: bool) -> None:
    """Refuse (NMC-W01) a file, and a folder with anything in it, unless an earlier export made it."""
    ours = (folder / export.SCRIPT).is_file() and (folder / "expected.npz").is_file()
    if folder.exists() and not folder.is_dir():
        raise NmcError("NMC-W01", str(folder), "is a file", "name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (ours or force):
        raise NmcError("NMC-W01", str(folder), "is a folder with other files", "use --force to add to it")


def _samples(bundle: Bundle, data: Path | None, samples: int) -> IntArray:
    if samples < 1:
        raise NmcError("NMC-U02", "samples", f"is {samples}", "use at least 1", measured=samples, allowed=1)
    if data is None:
        return np.asarray(bundle.golden["x"][:samples], np.int64)
    return encode.encode(bundle.network, read_samples(data).x)[:samples]
