"""matplotlib, where it is installed: figures without a window, as PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from nmc import extras
from nmc.errors import NmcError


def new_figure(path: Path, width: float, height: float) -> Any:
    """An empty figure, inches. Raises NmcError NMC-E01, naming the file to be drawn, without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NmcError("NMC-E01", str(path), "a plot needs matplotlib", extras.install("plot")) from error
    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Any) -> bytes:
    """The figure's file; it needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    out = io.BytesIO()
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(out)
    return out.getvalue()
