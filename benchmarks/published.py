"""What the papers print, beside what this code counts: energies of R4's networks, firing rates of SEW blocks.

    python benchmarks/published.py energy              # seconds
    python benchmarks/published.py rates [18 34]       # some minutes; needs scikit-learn; writes docs/figures

``energy``: parameters and operations, and the mean firing rate that the published energies imply under the
literature's formula (``nmc.reports.literature``), with the first layer paid once or in each of the six steps.

``rates``: the weights are random, the batch norms are calibrated on four crops of scikit-learn's two photos,
and four other crops are run as chip integers on the native engine: rates at the start of training, not those
of a trained network.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np

import nmc
from nmc.frontend.zoo import NETWORKS
from nmc.frontend.zoo.calibrated import calibrated
from nmc.frontend.zoo.draft import operations_by_layer, parameters
from nmc.reports.literature import Work
from nmc.reports.rates import block_rates, rate_chart

FIGURES = Path(__file__).resolve().parent.parent / "docs" / "figures"
CROP, STEPS = 224, 4
CORNERS = (
    *((0, 0), (0, 200), (0, 400), (100, 100)),
    *((200, 0), (200, 200), (200, 400), (100, 300)),
)
"""Row and column of each crop in a photo of 427 x 640; the first four calibrate, the others are measured."""


def energy() -> None:
    print(
        "| network | parameters | operations per step | first layer | published, µJ | implied rate, once |"
        " implied rate, every step |\n|---|---|---|---|---|---|---|"
    )
    for name, entry in NETWORKS.items():
        if entry.joules is None:
            continue
        graph = entry.build()
        layers = operations_by_layer(graph)
        readers = graph.after("input")
        first = sum(layers[layer] for layer in readers)
        work = Work(first, sum(layers.values()) - first, entry.steps)
        rates = [work.rate(entry.joules, every_step=every) for every in (False, True)]
        print(
            f"| {name} | {parameters(graph) / 1e6:.2f} M | {sum(layers.values()) / 1e6:.2f} M |"
            f" {first / 1e6:.2f} M | {entry.joules * 1e6:.2f} | {rates[0]:.2%} | {rates[1]:.2%} |"
        )


def photos() -> tuple[np.ndarray, np.ndarray]:
    """Crops (4, 3, 224, 224) for calibration and others to measure; 0..1, each colour centred on its mean."""
    from sklearn.datasets import load_sample_images

    images = [image.transpose(2, 0, 1) / 255.0 for image in load_sample_images().images]
    centred = [image - image.mean(axis=(1, 2), keepdims=True) for image in images]
    crops = [
        image[:, row : row + CROP, column : column + CROP]
        for image, (row, column) in product(centred, CORNERS)
    ]
    half = len(CORNERS) // 2
    chosen = np.arange(len(crops)) % len(CORNERS) < half
    return np.array(crops)[chosen][::2], np.array(crops)[~chosen][::2]


def rates(depth: int) -> None:
    before, measured = photos()
    graph = calibrated(NETWORKS[f"sew-resnet-{depth}"].build(), before, STEPS)
    bundle = nmc.compile(graph, "loihi2", before, steps=STEPS, stop_after="prove-ranges")
    trace = nmc.run(bundle, measured)
    blocks = block_rates(bundle.network, trace.counts)
    title = f"SEW-ResNet-{depth}, T = {STEPS}, random weights, calibrated batch norms: firing rates"
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / f"sew_resnet_{depth}_rates.svg").write_text(rate_chart(title, blocks))
    print(f"\nSEW-ResNet-{depth}\n\n| block | A | O, events | O, mean |\n|---|---|---|---|")
    for one in blocks:
        print(f"| {one.block} | {one.branch:.3f} | {one.output:.3f} | {one.payload:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("energy", "rates"))
    parser.add_argument("depths", nargs="*", type=int, default=[18, 34])
    options = parser.parse_args()
    if options.what == "energy":
        energy()
    for depth in options.depths if options.what == "rates" else []:
        rates(depth)


if __name__ == "__main__":
    main()
