"""Neurons and time: which call of a neuron is which step, and whose state it carries.

A neuron's op node stands for all steps. In a loop over time, or in a module that is called once per step,
its k-th call is step k. Each call must read the same node: then every step computes the same thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nmc.frontend.opgraph import Neuron
from nmc.frontend.tracing import layout
from nmc.frontend.tracing.value import LOOP, State, Value

if TYPE_CHECKING:
    from nmc.frontend.tracing.tracer import Tracer

POTENTIAL = "reads the membrane potential of a neuron that fires; use its spikes"


@dataclass
class Population:
    """node: its node; source: what it reads; calls: so far, 0 for one call over all steps at once.

    explicit: its state is handed in and out by the caller. module: path of the module. lead, delay: leading
    axes and delay of its input.
    """

    module: str
    node: str
    source: str
    calls: int
    explicit: bool
    lead: layout.Axes = ()
    delay: int = 0


class Neurons:
    """All populations of one trace, by module and by what they read."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.populations: dict[tuple[int, str], Population] = {}
        self._handed: dict[int, tuple[Value, State]] = {}

    def multi_step(self, module: Any, path: str, op: Neuron, x: Value, explicit: bool = False) -> Value:
        """The neuron over all steps at once; ``x`` is settled and may have a time axis."""
        if x.step is not None:
            self.tracer.refuse(
                "a neuron that reads all steps gets a single one", "call it behind torch.stack"
            )
        return self._value(self._population(module, path, op, x, 0, explicit), x, None)

    def single_step(
        self, module: Any, path: str, op: Neuron, x: Value, state: object = None, explicit: bool = False
    ) -> tuple[Value, State]:
        """The neuron in one step.

        Args:
            x: settled; no time axis.
            state: what an explicit neuron got: None or anything that is no State for its first step.
            explicit: whether the caller keeps the state.

        Returns:
            the Value of its node, and its state after the step.
        """
        lead = layout.leading(x.axes)
        if any(axis != layout.BATCH for axis in lead):
            self.tracer.refuse(
                "a neuron that computes one step gets a tensor that holds several",
                "set its step_mode to 'm', or call it inside of a loop over time",
            )
        known = self.populations.get((id(module), x.node))
        if isinstance(state, State):
            if known is None or state.node != known.node:
                self.tracer.refuse(
                    f"gets the state of {state.node} with another input than {state.node} has",
                    "one population reads one input in every step; " + LOOP,
                )
            step = state.step + 1
        else:
            step = 0 if explicit or known is None else known.calls
        if x.step not in (None, (step,)):
            now = (x.step or (0,))[0]
            if explicit and not isinstance(state, State):
                self.tracer.refuse(f"gets no state in step {now}", "hand it the state that it returned")
            self.tracer.refuse(
                f"runs its step {step} on an input of step {now}",
                "a neuron that is used twice in a step shares its state: give each use its own",
            )
        population = self._population(module, path, op, x, step + 1, explicit)
        return self._value(population, x, (step,)), State(x, population.node, step)

    def _population(
        self, module: Any, path: str, op: Neuron, x: Value, calls: int, explicit: bool
    ) -> Population:
        key = (id(module), x.node)
        population = self.populations.get(key)
        if population is not None:
            if calls == 0 and not explicit:
                self._refuse_shared(population, x)
            population.calls = max(population.calls, calls)
            return population
        if not explicit:
            for (module_id, _), other in self.populations.items():
                if module_id == id(module):
                    self._refuse_shared(other, x)
        with self.tracer.blaming():
            node = self.tracer.builder.add(op, [x.node], path)
        population = Population(path, node, x.node, calls, explicit, layout.leading(x.axes), x.delay)
        self.populations[key] = population
        return population

    def _refuse_shared(self, other: Population, x: Value) -> None:
        if other.node in self.tracer.builder.behind(x.node):
            self.tracer.refuse("reads its own spikes of the step before", LOOP)
        self.tracer.refuse(
            f"is used twice, on {other.source} and on {x.node}, and its state would run through both uses",
            "give each use a neuron of its own",
        )

    @staticmethod
    def _value(population: Population, x: Value, step: tuple[int, ...] | None) -> Value:
        return Value(x.tracer, population.node, x.axes, step, x.delay)

    def hand_out(self, potential: Value, state: State) -> None:
        """Remembers that a framework gave its caller this potential as the neuron's state."""
        self._handed[id(potential)] = (potential, state)

    def handed_out(self, item: object) -> State | None:
        """The state that an argument of a neuron stands for."""
        if isinstance(item, State):
            return item
        return self._handed[id(item)][1] if id(item) in self._handed else None

    def states_in(self, item: object) -> Iterator[State]:
        """Every state in nested lists, tuples and dicts."""
        state = self.handed_out(item)
        if state is not None:
            yield state
        elif isinstance(item, dict):
            for part in item.values():
                yield from self.states_in(part)
        elif isinstance(item, list | tuple):
            for part in item:
                yield from self.states_in(part)

    def potential(self, spikes: Value) -> Value:
        """The potential of a firing neuron: may be handed back as state and stacked, not read."""
        value = spikes.moved(spikes.node, spikes.axes)
        value.forbidden = POTENTIAL
        return value
