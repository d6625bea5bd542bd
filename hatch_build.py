"""Build hook: compiles the C++ engine where there is a C++17 compiler, else goes on without it.

The library holds no Python headers, so one wheel per platform serves every Python 3.
"""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "nmc/backends/sim"


class NativeBuildHook(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a wheel is put together; editable installs build in place."""
        builder = _builder(Path(self.root))
        try:
            library = builder.build()
        except builder.BuildError as error:
            print(f"nmc: C++ engine not built ({error}); the reference engine is used", file=sys.stderr)
            return
        build_data["artifacts"].append(f"{FOLDER}/native/{library.name}")
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def _builder(root: Path) -> ModuleType:
    """``build_native`` by its path: nmc itself cannot be imported before its dependencies are there."""
    spec = importlib.util.spec_from_file_location("build_native", root / FOLDER / "build_native.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
