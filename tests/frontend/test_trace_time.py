"""Neurons and time: step modes, loops, states, sharing; on stand-ins of the frameworks' neurons."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from standins import IFNode, Leaky, LIFBoxCell  # noqa: E402
from torch import nn  # noqa: E402

from nmc.errors import NmcError  # noqa: E402
from nmc.frontend import opgraph as og  # noqa: E402
from nmc.frontend.lower import lower  # noqa: E402
from nmc.frontend.trace import trace, trace_module  # noqa: E402
from nmc.frontend.tracing.compare import compare  # noqa: E402
from nmc.ir import Compare, Encoding  # noqa: E402

STEPS, SAMPLES, FEATURES = 5, 6, 8


def lively(net: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(2)
    for tensor in net.parameters():
        tensor.data.copy_(torch.rand(tensor.shape, generator=generator) - 0.3)
    return net


def check(net: nn.Module, *, frames: bool, layers: int, **kwargs: object) -> og.OpGraph:
    shape = (SAMPLES, FEATURES) if frames else (SAMPLES, STEPS, FEATURES)
    x = np.random.default_rng(0).random(shape)
    match = compare(lively(net), (FEATURES,), x, STEPS, double=True, **kwargs)
    assert len(match.layers) == layers
    assert match.differing == 0
    assert match.output.differing == 0
    assert match.spikes > 20
    return match.graph


def chain(mode: str) -> nn.Module:
    return nn.Sequential(
        nn.Linear(FEATURES, 7), IFNode(step_mode=mode), nn.Linear(7, 6), IFNode(0.7, None, step_mode=mode)
    )


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("frames", [False, True])
def test_step_modes(mode, frames):
    graph = check(chain(mode), frames=frames, layers=2)
    assert trace_module(chain(mode), (FEATURES,)).step_mode == mode
    first, second = (graph.nodes[name] for name in ("1", "3"))
    assert (first.reset, second.reset) == (og.ResetRule.VALUE, og.ResetRule.SUBTRACT)
    assert (float(second.threshold), second.compare) == (0.7, Compare.GREATER_EQUAL)


class Loop(nn.Module):
    """A loop over time in forward, as snnTorch's users write it."""

    def __init__(self, result: str = "stack", indexed: bool = True, explicit: bool = True) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(FEATURES, 7), nn.Linear(7, 6)
        self.lif1 = Leaky(init_hidden=not explicit)
        self.lif2 = Leaky(init_hidden=not explicit, reset_mechanism="none" if "mem" in result else "zero")
        self.result, self.indexed, self.explicit = result, indexed, explicit

    def forward(self, x: torch.Tensor) -> object:
        mem1, mem2 = self.lif1.reset_mem(), self.lif2.reset_mem()
        spikes, mems, total = [], [], torch.zeros(len(x[0] if self.indexed else x), 6)
        for t in range(STEPS):
            current = self.fc1(x[t] if self.indexed else x)
            if self.explicit:
                spike, mem1 = self.lif1(current, mem1)
                spike, mem2 = self.lif2(self.fc2(spike), mem2)
                mems.append(mem2)
            else:
                spike = self.lif2(self.fc2(self.lif1(current)))
            spikes.append(spike)
            if self.result == "running":
                total += spike
        return {
            "stack": lambda: (torch.stack(spikes), torch.stack(mems) if mems else None),
            "batch first": lambda: torch.stack(spikes, dim=1),
            "cat": lambda: torch.cat([spike.unsqueeze(0) for spike in spikes]),
            "sum": lambda: torch.stack(spikes).sum(0),
            "python sum": lambda: sum(spikes),
            "running": lambda: total,
            "mean": lambda: torch.stack(spikes, 0).mean(dim=0),
            "sum / T": lambda: sum(spikes) / STEPS,
            "mem": lambda: mem2,
            "mem sum": lambda: torch.stack(mems).sum(0),
            "mem mean": lambda: torch.stack(mems).mean(0),
        }[self.result]()


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize(
    "result", ["stack", "batch first", "cat", "sum", "python sum", "running", "mean", "sum / T"]
)
def test_loop_over_time(result, indexed, explicit):
    net = Loop(result, indexed, explicit)
    graph = check(net, frames=not indexed, layers=2, step_mode="m" if indexed else "s")
    ends = ["mean"] if result in ("mean", "sum / T") else []
    assert list(graph.nodes) == ["input", "fc1", "lif1", "fc2", "lif2", *ends, "output"]
    assert graph.steps == STEPS


@pytest.mark.parametrize("result", ["mem sum", "mem mean"])
def test_potentials_are_read_once(result):
    with pytest.raises(NmcError, match=r"NMC-G05 .* lif2, which never fires.* after the last step"):
        lower(trace(Loop(result), (FEATURES,), step_mode="m"), STEPS, "relay", Encoding.SPIKES)


def test_loop_that_returns_the_last_potential():
    graph = check(Loop("mem"), frames=False, layers=2, step_mode="m")
    assert graph.nodes["lif2"].threshold is None


def test_loop_over_as_many_steps_as_come():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(FEATURES, 6), Leaky(init_hidden=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.lif(self.fc(x_t)) for x_t in x])

    assert check(Net(), frames=False, layers=1, step_mode="m").steps is None
    assert trace(Net(), (FEATURES,), step_mode="m", steps=12).steps == 12


def test_state_that_the_caller_keeps():
    """Norse's cells: the state goes out with the result, or into an attribute."""

    class Returned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.cell = nn.Linear(FEATURES, 6), LIFBoxCell()

        def forward(self, x: torch.Tensor, state: object = None) -> object:
            return self.cell(self.fc(x), state)

    graph = check(Returned(), frames=False, layers=1)
    cell = graph.nodes["cell"]
    assert float(cell.keep_v) == pytest.approx(0.5)
    assert float(cell.gain) == pytest.approx(0.5)
    assert cell.compare is Compare.GREATER

    class Kept(Returned):
        state = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            spikes, self.state = self.cell(self.fc(x), self.state)
            return spikes

    assert trace(Kept(), (FEATURES,)).edges == graph.edges

    class Dropped(Returned):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.cell(self.fc(x))[0]

    with pytest.raises(NmcError, match="every step would start anew") as caught:
        trace(Dropped(), (FEATURES,))
    assert caught.value.who == "cell"


def test_one_cell_twice_is_two_populations():
    """Explicit states: the parameters are shared, the states are not."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2, self.cell = nn.Linear(FEATURES, 6), nn.Linear(6, 6), LIFBoxCell()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a = b = None
            result = []
            for x_t in x:
                z, a = self.cell(self.fc1(x_t), a)
                z, b = self.cell(self.fc2(z), b)
                result.append(z)
            return torch.stack(result)

    graph = check(Net(), frames=False, layers=2, step_mode="m")
    assert graph.named(og.Neuron) == ("cell", "cell.2")


class Shared(nn.Module):
    """One neuron with a state of its own, called on two currents."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.fc1, self.fc2, self.sn = nn.Linear(FEATURES, 6), nn.Linear(FEATURES, 6), IFNode(step_mode=mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sn(self.fc1(x)) + self.sn(self.fc2(x))


@pytest.mark.parametrize("mode", ["s", "m"])
def test_shared_state_is_refused(mode):
    with pytest.raises(NmcError, match="is used twice, on fc1 and on fc2") as caught:
        trace(Shared(mode), (FEATURES,))
    assert caught.value.code == "NMC-G05"
    assert caught.value.who == "sn"
    assert "return self.sn(self.fc1(x)) + self.sn(self.fc2(x))" in str(caught.value)


class Uneven(nn.Module):
    """The first neuron runs three times, the second once: no reading of time makes sense of it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.a, self.b = nn.Linear(FEATURES, 6), IFNode(), IFNode()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        current = self.fc(x)
        return self.b(sum(self.a(current) for _ in range(3)) / 3)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.rec, self.lif = nn.Linear(FEATURES, 6), nn.Linear(6, 6), Leaky(init_hidden=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes, result = torch.zeros(x.shape[1], 6), []
        for x_t in x:
            spikes = self.lif(self.fc(x_t) + self.rec(spikes))
            result.append(spikes)
        return torch.stack(result)


class WrongState(nn.Module):
    """The state of one population goes into another."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(FEATURES, 6), nn.Linear(FEATURES, 6)
        self.a, self.b = LIFBoxCell(), LIFBoxCell()

    def forward(self, x: torch.Tensor) -> object:
        z, state = self.a(self.fc1(x))
        return self.b(self.fc2(x) + z, state)


class Reads(nn.Module):
    """Uses a membrane potential as if it were a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif, self.out = nn.Linear(FEATURES, 6), Leaky(), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, mem = self.lif(self.fc(x))
        return self.out(mem)


class LastStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(FEATURES, 6), Leaky(init_hidden=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return [self.lif(self.fc(x_t)) for x_t in x][-1]


class Backwards(LastStep):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.lif(self.fc(x_t)) for x_t in x][::-1])


class SkipsSteps(LastStep):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.lif(self.fc(x[t])) for t in (0, 2)])


class LastOfAll(nn.Module):
    """The last step of a network that computes all of them at once."""

    def __init__(self) -> None:
        super().__init__()
        self.body = chain("m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)[-1]


class SomeSteps(LastStep):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum([self.lif(self.fc(x_t)) for x_t in x][1:])


REFUSED = {
    "the last of all steps": (LastOfAll, "m", "returns step 2 of 3 only"),
    "some steps": (SomeSteps, "m", "returns step 2 of 3 only"),
    "a neuron that runs more often": (Uneven, "s", "time"),
    "recurrent": (Recurrent, "m", "recurrent"),
    "another population's state": (WrongState, "s", "gets the state of a"),
    "a potential": (Reads, "s", "membrane potential"),
    "the last step": (LastStep, "m", "returns step 2 of 3 only"),
    "backwards": (Backwards, "m", "another order"),
    "skipped steps": (SkipsSteps, "m", "runs its step 1 on an input of step 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    build, mode, text = REFUSED[name]
    with pytest.raises(NmcError, match=text) as caught:
        trace(build(), (FEATURES,), step_mode=mode)
    assert caught.value.code == "NMC-G05"


def test_multi_step_neuron_without_time():
    net = nn.Sequential(nn.Linear(FEATURES, 6), IFNode(step_mode="m"))
    with pytest.raises(NmcError, match="expects \\(time, batch\\)") as caught:
        trace(net, (FEATURES,), step_mode="s")
    assert caught.value.who == "1"


def test_frame_repeated_by_the_module():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = chain("m")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.ndim == 2:
                x = x.unsqueeze(0).repeat(STEPS, 1, 1)
            return self.body(x).mean(0)

    graph = check(Net(), frames=True, layers=2, step_mode="s")
    assert graph.steps == STEPS
    assert check(Net(), frames=False, layers=2, step_mode="m").steps is None


def test_steps_that_contradict_the_module():
    with pytest.raises(NmcError, match="runs 5 steps by itself") as caught:
        trace(Loop(indexed=False), (FEATURES,), steps=4)
    assert caught.value.code == "NMC-U02"


def test_dt_that_contradicts_the_module():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = LIFBoxCell(dt=0.001)

        def forward(self, x: torch.Tensor, state: object = None) -> object:
            return self.cell(x, state)

    assert trace(Net(), (FEATURES,), dt=0.001).named(og.Neuron) == ("cell",)
    with pytest.raises(NmcError) as caught:
        trace(Net(), (FEATURES,), dt=0.002)
    assert (caught.value.code, caught.value.who) == ("NMC-G07", "cell")


def test_the_check_finds_a_neuron_that_behaves_otherwise():
    """A framework that does not do what its attributes say: the check names layer, sample and step."""
    net = lively(chain("s"))
    honest = net[3].step
    net[3].step = lambda x: honest(1.3 * x)
    x = np.random.default_rng(0).random((SAMPLES, STEPS, FEATURES))
    match = compare(net, (FEATURES,), x, STEPS, double=True)
    first, second = match.layers
    assert (first.layer, first.differing, first.first) == ("1", 0, None)
    assert second.layer == "3"
    assert 0 < second.differing == match.differing < second.values
    assert second.first is not None
    sample, step, _ = second.first
    assert 0 <= sample < SAMPLES
    assert 0 <= step < STEPS
