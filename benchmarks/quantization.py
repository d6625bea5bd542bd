"""Accuracy that quantization costs, network by network, bit by bit; prints Markdown.

    python benchmarks/quantization.py [--networks sew,ms] [--bits 8,6,5,4,3,2] [--seeds 0,1,2] [--cache DIR]
                                      [--results FILE]

Needs torch and scikit-learn. Networks other than the demo's are trained here (``trained.py``; about a minute
each on one idle core) from several seeds; losses are in points of accuracy on test images that took part in
nothing else, averaged over the seeds. ``default``: one scale per layer. ``best``: one scale per layer or
per channel, whichever is better on the validation part. ``tuned``: per channel, then fine-tuned by
``nmc.tune``; the epoch is chosen by the loss on five views of every validation image. ``unrest``: how many of
the validation and test images the float network itself gives another class when its weights move by one part
in a thousand. A second table has the points lost on twenty views of every test image, with the standard error
over the images: one image of 360 is 0.28 points, and that is often chance.
With --results, what is in the file is not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from trained import NETWORKS, Data, FloatModule, copies

from nmc.backends import encode
from nmc.backends.engines import engine
from nmc.chip import load_chip
from nmc.ir import Network, Reset, frozen
from nmc.passes import pipeline, run_passes
from nmc.quantize.aware import aware
from nmc.quantize.precision import Granularity, Precision
from nmc.quantize.tune import Recipe, tune

CHIP = "loihi2"
SOFT_CHIP = "lava-cpu"
"""For networks that reset by subtraction, which no chip file with limits offers."""
CALIBRATION = 128
CHUNK = 720
"""Samples that an engine runs at once."""
TUNED = (4, 2)
JITTER, DRAWS = 1e-3, 2
GRANULARITIES: tuple[Granularity, ...] = ("layer", "channel")


class Subject:
    """One network of one seed, with its data and what is known of it."""

    def __init__(self, name: str, seed: int, cache: Path | None) -> None:
        self.kind = NETWORKS[name]
        self.seed = seed
        self.data: Data = self.kind.data()
        self.network = self.kind.make(self.data, seed, cache)
        soft = any(getattr(p.neuron, "reset", None) is Reset.SUBTRACT for p in self.network.compute)
        self.chip = load_chip(SOFT_CHIP if soft else CHIP)
        self._shown: np.ndarray | None = None

    def floats(self) -> dict[str, float]:
        """Test accuracy, and the share of images that noise on the weights gives another class."""
        data, rng = self.data, np.random.default_rng(self.seed)
        x = np.concatenate([data.x_val, data.x_test])
        wanted = classes(self.network, x)
        changed = 0.0
        for _ in range(DRAWS):
            shaken = tuple(
                replace(p, weight=frozen(p.weight * (1 + JITTER * rng.normal(size=p.weight.shape))))
                for p in self.network.projections
            )
            changed += float((classes(self.network.with_(projections=shaken), x) != wanted).mean()) / DRAWS
        right = wanted[len(data.x_val) :] == data.y_test
        return {"float": float(right.mean()), "unrest": changed, "shown": float(self.shown.mean())}

    @property
    def shown(self) -> np.ndarray:
        """Whether the float network is right, of every view of the test images."""
        if self._shown is None:
            self._shown = classes(self.network, self.data.x_shown) == self._repeated(self.data.x_shown)
        return self._shown

    def _repeated(self, x: np.ndarray) -> np.ndarray:
        """The classes of views of test images."""
        return np.tile(self.data.y_test, len(x) // len(self.data.y_test))

    def integers(self, bits: int, granularity: Granularity) -> dict[str, float]:
        passes = pipeline(self.chip, self.data.x[:CALIBRATION], Precision(bits, granularity))
        return self.measured(run_passes(self.network, passes, stop_after="prove-ranges"))

    def measured(self, network: Network) -> dict[str, float]:
        """Accuracy on the validation and test images; points lost on views of test images, with the standard
        error over the images."""

        def right(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            parts = (x[start : start + CHUNK] for start in range(0, len(x), CHUNK))
            traces = [engine("auto").run(network, encode.encode(network, p), network.steps) for p in parts]
            return np.concatenate([trace.classes for trace in traces]) == y

        data = self.data
        found = {"val": right(data.x_val, data.y_val), "test": right(data.x_test, data.y_test)}
        shown = right(data.x_shown, self._repeated(data.x_shown))
        lost = 100 * (self.shown.astype(float) - shown).reshape(-1, len(data.y_test)).mean(axis=0)
        return {
            **{part: float(one.mean()) for part, one in found.items()},
            "lost": float(lost.mean()),
            "error": float(lost.std() / len(lost) ** 0.5),
        }

    def tuned(self, bits: int) -> dict[str, float]:
        data = self.data
        module = aware(self.network, self.chip, data.x[:CALIBRATION], Precision(bits, "channel"))
        recipe = Recipe(epochs=self.kind.tuned, batch=self.kind.batch, seed=self.seed)
        held = (data.x_choosing, np.tile(data.y_val, len(data.x_choosing) // len(data.y_val)))
        tune(module, *copies(data, self.seed), validation=held, recipe=recipe)
        return self.measured(module.export())


def classes(network: Network, x: np.ndarray) -> np.ndarray:
    module = FloatModule(network).eval()
    with torch.no_grad():
        return torch.cat([module(part).argmax(1) for part in torch.from_numpy(x).split(30)]).numpy()


# --- the run ----------------------------------------------------------------------------------------


def measure(
    name: str, seed: int, bits: list[int], cache: Path | None, results: dict[str, dict[str, float]]
) -> None:
    """Add what is missing of one network to the results."""
    subject: Subject | None = None

    def add(key: str) -> None:
        nonlocal subject
        full = f"{name}/{seed}/{key}"
        if full in results:
            return
        subject = subject or Subject(name, seed, cache)
        if key == "float":
            results[full] = subject.floats()
        elif key.startswith("tuned"):
            results[full] = subject.tuned(int(key[5:]))
        else:
            number, granularity = key.split()
            results[full] = subject.integers(int(number), "layer" if granularity == "layer" else "channel")
        print(full, results[full], file=sys.stderr, flush=True)

    add("float")
    for number in bits:
        for granularity in GRANULARITIES:
            add(f"{number} {granularity}")
    for number in TUNED:
        if NETWORKS[name].tuned and number in bits:
            add(f"tuned{number}")


def losses(name: str, seeds: list[int], key: str, results: dict[str, dict[str, float]]) -> list[float]:
    """Points of test accuracy that ``key`` costs, one per seed that was measured."""
    found = []
    for seed in seeds:
        base = results.get(f"{name}/{seed}/float")
        if key.startswith("best"):
            options = [results.get(f"{name}/{seed}/{key[4:]} {one}") for one in GRANULARITIES]
            known = [one for one in options if one is not None]
            # The first of equals: the default.
            one = max(known, key=lambda found: found["val"]) if known else None
        else:
            one = results.get(f"{name}/{seed}/{key}")
        if base is not None and one is not None:
            found.append(100 * (base["float"] - one["test"]))
    return found


def cell(values: list[float]) -> str:
    """Mean, and the single values where there are several."""
    if not values:
        return "-"
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({', '.join(f'{value:.2f}' for value in values)})"


def table(bits: list[int], results: dict[str, dict[str, float]]) -> str:
    """Markdown: a row per network and method."""
    names = list(dict.fromkeys(key.split("/")[0] for key in results))
    lines = [
        "| network | float | unrest | method | " + " | ".join(f"{number} bits" for number in bits) + " |",
        "|---" * (4 + len(bits)) + "|",
    ]
    for name in names:
        seeds = sorted({int(key.split("/")[1]) for key in results if key.split("/")[0] == name})
        base = [results[f"{name}/{seed}/float"] for seed in seeds if f"{name}/{seed}/float" in results]
        whole = f"{100 * np.mean([one['float'] for one in base]):.2f} %"
        unrest = f"{100 * np.mean([one['unrest'] for one in base]):.2f} %"
        for method, form in (("default", "{} layer"), ("best", "best{}"), ("tuned", "tuned{}")):
            cells = [cell(losses(name, seeds, form.format(number), results)) for number in bits]
            if any(one != "-" for one in cells):
                lines.append(f"| {name} | {whole} | {unrest} | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shown(bits: list[int], results: dict[str, dict[str, float]]) -> str:
    """Markdown: a row per network and seed, points lost on the views of test images."""
    keys = [f"{number} {one}" for number in bits for one in GRANULARITIES] + [f"tuned{n}" for n in TUNED]
    known = {key: one for key, one in results.items() if "lost" in one}
    keys = [key for key in keys if any(full.endswith(f"/{key}") for full in known)]
    lines = [f"| network | seed | {' | '.join(keys)} |", "|---" * (2 + len(keys)) + "|"]
    for name, seed in dict.fromkeys(tuple(key.split("/")[:2]) for key in known):
        found = [known.get(f"{name}/{seed}/{key}") for key in keys]
        cells = ["-" if one is None else f"{one['lost']:.2f} ± {one['error']:.2f}" for one in found]
        lines.append(f"| {name} | {seed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--bits", default="8,6,5,4,3,2")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--cache", type=Path, help="folder of trained networks")
    parser.add_argument("--results", type=Path, help="JSON file of measurements, read and added to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bits = [int(one) for one in arguments.bits.split(",")]
    stored = arguments.results
    results = json.loads(stored.read_text()) if stored is not None and stored.exists() else {}
    for name in arguments.networks.split(","):
        for seed in [int(one) for one in arguments.seeds.split(",")][: None if NETWORKS[name].seeds else 1]:
            measure(name, seed, bits, arguments.cache, results)
            if stored is not None:
                stored.write_text(json.dumps(results, indent=1))
    print(table(bits, results), shown(bits, results), sep="\n\n")


if __name__ == "__main__":
    main()
