"""Compiles the native engine with the first C++17 compiler: ``python -m nmc.backends.sim.build_native``.

Also called by the build hook (``hatch_build.py``) when nmc is installed; therefore it imports nothing of nmc.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).parent / "native"
LIBRARY = SOURCES / "_nmc_native.so"
COMPILERS = ("c++", "g++", "clang++")
COMMON = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fwrapv", "-Wall", "-Wextra", "-Wno-psabi")
# GCC 12 takes the undefined operands of its own intrinsics for uninitialised variables.
KERNELS = ("-fno-exceptions", "-fno-rtti", "-Wno-uninitialized", "-Wno-maybe-uninitialized")
# Per file and never -march=native: the library runs on every CPU of the architecture (native/isa.cpp).
X86_FLAGS = {
    "kernels_avx2.cpp": ("-mavx2", "-mpopcnt"),
    "kernels_avx512.cpp": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mpopcnt"),
}


class BuildError(Exception):
    """No compiler, or it failed; the text is one line."""


def is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def _compilers() -> Iterator[list[str]]:
    """Candidates, the user's choice first; CXX may hold arguments."""
    chosen = os.environ.get("CXX", "").split()
    if chosen:
        yield chosen
        return
    for name in COMPILERS:
        if shutil.which(name):
            yield [name]


def compiler() -> list[str]:
    """The first compiler that can build a C++17 program.

    Raises:
        BuildError: when there is none.
    """
    tried = []
    for command in _compilers():
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder) / "probe.cpp"
            probe.write_text("#include <thread>\nstatic_assert(__cplusplus >= 201703L);\nint main() {}\n")
            try:
                _call([*command, "-std=c++17", "-pthread", str(probe), "-o", str(Path(folder) / "probe")])
            except BuildError:
                tried.append(" ".join(command))
                continue
            return command
    raise BuildError(
        f"no C++17 compiler ({', '.join(tried) or 'none found'}); install g++ or clang++, or set CXX"
    )


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]}: {error}") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise BuildError(f"{command[0]} failed: {lines[0] if lines else done.returncode}")


def build(library: Path = LIBRARY) -> Path:
    """Compile all sources and link them; the library appears in one step or not at all.

    Raises:
        BuildError: no compiler, or a file does not compile.
    """
    command = compiler()
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        jobs = []
        for source in sorted(SOURCES.glob("*.cpp")):
            if source.name in X86_FLAGS and not is_x86():
                continue
            flags = [*COMMON, *(["-DNMC_HAS_X86"] if is_x86() else [])]
            if source.name.startswith("kernels_"):
                # GCC 12 takes the undefined operands of its own intrinsics for uninitialised variables.
                flags += [
                    *KERNELS,
                    *X86_FLAGS.get(source.name, ()),
                    "-Wno-uninitialized",
                    "-Wno-maybe-uninitialized",
                ]
            target = Path(folder) / f"{source.stem}.o"
            objects.append(str(target))
            jobs.append([*command, *flags, "-c", str(source), "-o", str(target)])
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(_call, jobs))
        linked = library.with_name(f"{library.name}.{os.getpid()}.tmp")
        try:
            _call([*command, "-shared", "-pthread", *objects, "-o", str(linked)])
            linked.replace(library)
        finally:
            linked.unlink(missing_ok=True)
    return library


def main() -> int:
    try:
        library = build()
    except BuildError as error:
        print(f"native engine not built: {error}", file=sys.stderr)
        return 1
    print(f"native engine built: {library.name}, {library.stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
