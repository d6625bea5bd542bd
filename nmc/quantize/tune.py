"""Fine-tuning in one call: labels and the float network's answers are learned with the integers forward.

    module = nmc.aware("model.nir", "loihi2", x, weight_bits=2, granularity="channel")
    nmc.tune(module, x, y, validation=(x_val, y_val))
    bundle = nmc.compile(module.export(), "loihi2", x)

The loss is the cross entropy of the labels plus the Kullback-Leibler divergence from the float network's
classes (distillation, Hinton et al. 2015, arXiv:1503.02531), both at the temperature that fits the float
network to the labels (Guo et al. 2017, arXiv:1706.04599). Adam with one cycle of the learning rate, which for
weights counts in grid steps, so that it fits every width and layer. Thresholds are learned with the weights;
as only their ratio counts, that is to learn the grid's step (Esser et al. 2020, arXiv:1902.08153).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nmc.arrays import checked_labels, numbers, refuse_foreign_labels, refuse_infinite
from nmc.errors import NmcError
from nmc.frontend.float_network import run_network
from nmc.ir import Network

if TYPE_CHECKING:
    from torch import Tensor

    from nmc.quantize.fake import AwareNetwork

TEMPERATURES: tuple[float, ...] = tuple(2.0 ** (power / 2) for power in range(-16, 9))
"""Factors of the float network's outputs among which the best is chosen."""
DOUBT = 0.02
"""Label smoothing for that choice: a network that is always right would want endless confidence."""
TEACHER_BATCH = 128
RISE = 0.2
"""Share of the training in which the learning rate rises."""


@dataclass(frozen=True)
class Recipe:
    """How ``tune`` trains.

    epochs: passes over the samples. batch: samples per update. rate: how far an update may move a weight, in
    grid steps, at the peak of the cycle. state_rate: the same for thresholds and biases, in thresholds.
    noise: standard deviation of what is added to potentials while training, in thresholds; neurons with a
    margin are not changed by rounding. seed: of order and noise.
    """

    epochs: int = 40
    batch: int = 48
    rate: float = 0.012
    state_rate: float = 0.005
    noise: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises NmcError NMC-U02 for what cannot be trained with."""
        for name, least in (("epochs", 1), ("batch", 1), ("rate", 0), ("state_rate", 0), ("noise", 0)):
            asked = getattr(self, name)
            if not (math.isfinite(asked) and asked >= least):
                raise NmcError("NMC-U02", name, f"{asked} is asked for, at least {least} is allowed")


@dataclass(frozen=True)
class Score:
    """Of the integers on the validation samples: the loss that is trained for, and the share of right
    classes."""

    loss: float
    accuracy: float


def tune(
    module: AwareNetwork,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    validation: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    recipe: Recipe | None = None,
) -> tuple[Score, ...]:
    """Train ``module`` in place and leave it in evaluation mode.

    Args:
        module: as ``aware`` gives it.
        x: (N, *shape) frames or (N, T, *shape) trains in the model's units, moved or turned copies included
            where they help: the float network answers for each of them.
        y: (N,) classes, whole numbers.
        validation: samples and classes that are not trained on. Of the parameters before training and after
            every epoch, those with the least loss on them are kept; without, those at the end. Epochs lie
            close together, so that a few hundred samples pick one by chance: give moved copies here, too.

    Returns:
        Scores before training and after every epoch; empty without ``validation``.

    Raises:
        NmcError: NMC-D02 for samples or classes that do not fit, or are no finite numbers.
    """
    import torch

    recipe = recipe or Recipe()
    lesson = _Lesson.of(module.source, x, y)
    held = None if validation is None else _Lesson.of(module.source, *validation)
    temperature = (held or lesson).temperature()
    rng = torch.Generator().manual_seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    updates = max(1, len(lesson.x) // recipe.batch)
    optimizer = torch.optim.Adam(_groups(module, recipe))
    rates = [group["lr"] for group in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=recipe.epochs * updates, pct_start=RISE
    )
    scores = [] if held is None else [held.score(module, temperature)]
    kept = copy.deepcopy(module.state_dict())
    for _ in range(recipe.epochs):
        module.train()
        module.noise = recipe.noise
        order = torch.randperm(len(lesson.x), generator=rng)[: updates * recipe.batch]
        for index in order.split(recipe.batch):
            loss = lesson.loss(module, temperature, index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if held is not None:
            scores.append(held.score(module, temperature))
        if not scores or scores[-1].loss <= min(one.loss for one in scores):
            kept = copy.deepcopy(module.state_dict())
    module.load_state_dict(kept)
    module.noise = 0.0
    module.eval()
    return tuple(scores)


@dataclass(frozen=True, eq=False)
class _Lesson:
    """Samples with their classes and the float network's outputs."""

    x: Tensor
    y: Tensor
    wanted: Tensor

    @classmethod
    def of(cls, network: Network, samples: npt.ArrayLike, classes: npt.ArrayLike) -> _Lesson:
        import torch

        who = network.name
        x = numbers(who, samples).astype(np.float64)
        refuse_infinite("NMC-D02", who, x)
        y = checked_labels(who, classes, x.shape)
        assert y is not None
        if len(x) == 0:
            raise NmcError("NMC-D02", who, "no sample to learn from", "give at least one")
        parts = []
        for start in range(0, len(x), TEACHER_BATCH):
            found = run_network(network, x[start : start + TEACHER_BATCH], network.steps)
            rows = [found[f"output/{name}"] for name in network.outputs]
            parts.append(np.concatenate([one.reshape(len(one), -1) for one in rows], axis=1))
        wanted = np.concatenate(parts)
        refuse_foreign_labels(who, y, wanted.shape[1])
        return cls(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(wanted))

    def temperature(self) -> float:
        """The factor of outputs at which the float network gives the labels the highest probability."""
        from torch.nn import functional

        def lost(factor: float) -> float:
            logits = self.wanted * factor
            return float(functional.cross_entropy(logits, self.y, label_smoothing=DOUBT))

        return min(TEMPERATURES, key=lost)

    def loss(self, module: AwareNetwork, temperature: float, index: Tensor) -> Tensor:
        """Of the samples at ``index``."""
        from torch.nn import functional

        logits = temperature * module(self.x[index])
        found = functional.log_softmax(logits, 1)
        wanted = functional.log_softmax(temperature * self.wanted[index], 1).to(found.dtype)
        distance = functional.kl_div(found, wanted, reduction="batchmean", log_target=True)
        return functional.cross_entropy(logits, self.y[index]) + distance

    def score(self, module: AwareNetwork, temperature: float) -> Score:
        import torch

        module.eval()
        lost, right = 0.0, 0
        with torch.no_grad():
            for index in torch.arange(len(self.x)).split(TEACHER_BATCH):
                lost += float(self.loss(module, temperature, index)) * len(index)
                right += int((module(self.x[index]).argmax(1) == self.y[index]).sum())
        return Score(lost / len(self.x), right / len(self.x))


def _groups(module: AwareNetwork, recipe: Recipe) -> list[dict[str, object]]:
    """Parameters with their learning rates."""
    steps, thresholds = module.units()
    groups: list[dict[str, object]] = [
        {"params": [tensor], "lr": recipe.rate * steps[name]} for name, tensor in module.tensors.items()
    ]
    for name, bias in module.biases.items():
        groups.append({"params": [bias], "lr": recipe.state_rate * thresholds[name]})
    for factor in module.thresholds.values():
        groups.append({"params": [factor], "lr": recipe.state_rate})
    return groups
