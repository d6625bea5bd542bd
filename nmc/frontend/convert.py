"""ANN to spiking network: every ReLU becomes an integrate-and-fire neuron, every value a rate.

The result holds standard ops only. Frames enter as a constant current (analog input); the last layer, which
has no neuron, is read by its accumulated potential, whose argmax is the argmax of its softmax.

First steps: all layers share a step (``timing.py`` starts each when its first input comes), so no bias acts
before its time; what is left of the transient is that every neuron starts from v0 = 0 and so lags behind by
half a spike per layer, which v0 = threshold / 2 and the correction of biases or potentials make up for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.conversion.activations import plain
from nmc.frontend.conversion.method import Method, named
from nmc.frontend.conversion.module import check_import, import_ann
from nmc.frontend.conversion.normal import NormalForm, normal_form
from nmc.frontend.conversion.scales import check_data, measure
from nmc.frontend.conversion.spiking import fold_scales, with_neurons
from nmc.frontend.conversion.tune import tune
from nmc.frontend.float_engine import run
from nmc.frontend.opgraph import OpGraph
from nmc.ir import FloatArray


def convert(
    ann: OpGraph | Any, data: npt.ArrayLike, steps: int, method: Method | str = "auto", **choices: Any
) -> OpGraph:
    """Convert an ANN for T = ``steps``.

    Args:
        ann: a torch.nn.Module, which is traced and the import checked, or an OpGraph with one Input and one
            Output. ReLU (or ``conversion.activations.ClipFloor``, QCFS) between convolutions, linear
            layers, batch norms, pools, sums and concatenations. It is not changed.
        data: calibration frames (N, *shape); no labels. At most 512 are used.
        steps: T that the result is tuned for; a longer run only gains accuracy from it.
        method: name of one of ``conversion.method.METHODS``, or a Method.
        choices: fields of ``Method`` that are to differ, such as ``reset="hard"``.

    Raises:
        NmcError: NMC-D03 for data that are empty, not finite or constant; NMC-G05 for what rates cannot
            carry; NMC-G04 for weights that give no finite values; NMC-V02 for an import that changed the
            function; NMC-U02, NMC-U03 for choices; and those of ``trace``.
    """
    if steps < 1:
        raise NmcError("NMC-U02", "steps", f"{steps} time steps", "give at least 1")
    chosen = named(method, **choices)
    frames = np.asarray(data, np.float64)
    if not isinstance(ann, OpGraph):
        ann = import_ann(ann, frames)
    form = normal_form(ann, chosen.pool)
    samples = check_data(form.graph, frames)
    measured = measure(form, samples, steps, chosen)
    _check_form(ann, form, samples, chosen)
    spiking = with_neurons(form, measured.scales, chosen, steps)
    spiking = fold_scales(tune(spiking, form, samples, steps, chosen), chosen.place)
    return spiking.with_(steps=steps, notes=(*ann.notes, *_notes(ann, chosen, measured.silent)))


def _check_form(ann: OpGraph, form: NormalForm, samples: FloatArray, method: Method) -> None:
    """Folding batch norms and replacing max pools must not have changed the function (NMC-V02)."""
    if method.pool == "average" and ann.named(og.MaxPool):
        return
    shapes, (sink,) = form.graph.shapes, ann.named(og.Output)
    # A pool and the ReLU behind it change places, and other nodes take batch norms up.
    same = [name for name in ann.named(og.ReLU) if shapes.get(name) == ann.shapes[name]]

    def original(x: FloatArray) -> dict[str, FloatArray]:
        found = run(plain(ann), x, 1, record=[*same, sink])
        return {name: values[:, 0] for name, values in found.values.items()}

    check_import(form.graph, original, samples)


def _notes(ann: OpGraph, method: Method, silent: tuple[str, ...]) -> list[str]:
    notes = [f"converted from an ANN: {method.text}"]
    if silent:
        notes.append(f"never active on the calibration data: {', '.join(silent)}")
    if method.pool == "average" and ann.named(og.MaxPool):
        notes.append("max pools are average pools now: the function of the ANN has changed")
    return notes
