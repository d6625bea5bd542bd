"""Build hook: compiles the native engine into the package; without a compiler the install goes on without it."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILDER = Path("nmc") / "backends" / "sim" / "build_native.py"


class NativeEngineHook(BuildHookInterface):
    """The library talks C to ctypes, so one wheel per platform serves every Python 3."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        path = Path(self.root) / BUILDER
        spec = importlib.util.spec_from_file_location("build_native", path)
        assert spec is not None
        assert spec.loader is not None
        builder = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(builder)
        try:
            library = builder.build()
        except builder.BuildError as error:
            print(f"nmc: {error}; the NumPy engine is used instead, with the same results", file=sys.stderr)
            return
        build_data["artifacts"].append(library.relative_to(self.root).as_posix())
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
