"""Import profiles: what NIR leaves out, per framework, as data.

NIR states neither the reset rule nor the comparison, the spikes per step or the discretisation, and
the frameworks differ in all four. A profile states them. The choice is given by the user, told by the
file's metadata, or detected where only one profile fits the numbers; otherwise it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nmc.errors import NmcError
from nmc.frontend.opgraph import ResetRule
from nmc.frontend.raw import RawGraph, RawNode, nearest
from nmc.ir import Compare, FloatArray

RATIO_TOLERANCE = 1e-4
"""How well r, tau and dt must fit each other; exporters store them as float32."""
DETECTABLE_RATE = 100.0
"""An IF whose r is the same everywhere and at least this large says r = 1 / dt (dt of 10 ms or less)."""
GAIN_RANGE = (1e-3, 1e3)
"""Outside of it, one unit of input does not move v by anything like a threshold: dt is wrong."""

INTEGRATORS = ("IF", "I")
LEAKY = ("LIF", "LI", "CubaLIF", "CubaLI")
FILTERED = ("CubaLIF", "CubaLI")


@dataclass(frozen=True)
class Profile:
    """One framework's conventions, as its NIR exporter leaves them in a file.

    reset_filtered: the reset of neurons with a current filter, where it differs.
    decay: keep = 1 - dt/tau ("euler") or exp(-dt/tau) ("exponential").
    jump: an input spike adds w_in to the filtered current, instead of w_in * dt / tau_syn.
    readout_gain: "r" where a non-spiking leaky integrator does not scale its input by 1 - keep.
    start: what v is before the first step.
    r_integrator, r_leaky: what r can be; empty for anything.
    dt: the time step where the framework fixes it (1: time is counted in steps).
    usual_dt: what its exporter uses unless told otherwise, for messages only.
    leak_and_reset: "free", both "zero", or "equal" (the leak's target is the reset potential).
    follows_tensors: its exporter finds edges by running the module, and ends at the last functional '+'.
    """

    name: str
    compare: Compare
    reset: ResetRule
    reset_filtered: ResetRule
    multi_spike: bool = False
    decay: Literal["euler", "exponential"] = "euler"
    jump: bool = False
    readout_gain: Literal["(1 - keep) r", "r"] = "(1 - keep) r"
    start: Literal["zero", "leak", "reset"] = "zero"
    r_integrator: tuple[Literal["1", "1/dt"], ...] = ()
    r_leaky: tuple[Literal["1", "tau/dt"], ...] = ()
    r_filtered: tuple[Literal["1", "tau/dt"], ...] = ()
    dt: float | None = None
    usual_dt: float | None = None
    leak_and_reset: Literal["free", "zero", "equal"] = "free"
    wrong_tau: str = ""
    follows_tensors: bool = False

    @property
    def summary(self) -> str:
        """Comparison, reset and spikes per step in words."""
        sign = ">" if self.compare is Compare.GREATER else ">="
        words = {
            ResetRule.VALUE: "reset to v_reset",
            ResetRule.SUBTRACT: "reset by subtraction",
            ResetRule.SUBTRACT_NEXT: "reset by subtraction one step later",
            ResetRule.BLANK_NEXT: "reset by a blank next step",
        }
        reset = words[self.reset]
        if self.reset_filtered is not self.reset:
            reset += f" ({words[self.reset_filtered]} behind a current filter)"
        spikes = "floor(v / threshold) spikes" if self.multi_spike else "one spike"
        return f"fires at v {sign} threshold, {reset}, at most {spikes} per step, {self.decay} decay"


PROFILES = {
    profile.name: profile
    for profile in (
        # As NIR's own documents read: strict comparison, reset to v_reset, forward Euler.
        Profile("nir", Compare.GREATER, ResetRule.VALUE, ResetRule.VALUE),
        Profile(
            "snntorch",
            Compare.GREATER,
            ResetRule.SUBTRACT_NEXT,
            ResetRule.SUBTRACT_NEXT,
            r_integrator=("1/dt",),
            r_leaky=("tau/dt",),
            r_filtered=("tau/dt",),
            usual_dt=1e-4,
            leak_and_reset="zero",
            follows_tensors=True,
        ),
        # reset_mechanism="zero": Leaky clears v before the decay, which gives the spikes of a reset in the
        # same step; Synaptic clears the whole next update.
        Profile(
            "snntorch-zero",
            Compare.GREATER,
            ResetRule.VALUE,
            ResetRule.BLANK_NEXT,
            r_integrator=("1/dt",),
            r_leaky=("tau/dt",),
            r_filtered=("tau/dt",),
            usual_dt=1e-4,
            leak_and_reset="zero",
            follows_tensors=True,
        ),
        Profile(
            "norse",
            Compare.GREATER,
            ResetRule.VALUE,
            ResetRule.VALUE,
            jump=True,
            start="leak",
            r_integrator=("1",),
            r_leaky=("1",),
            r_filtered=("1",),
            usual_dt=1e-3,
            wrong_tau="Norse's exporter writes dt / tau_mem_inv; export with to_nir(..., dt=1.0)",
            follows_tensors=True,
        ),
        Profile(
            "sinabs",
            Compare.GREATER_EQUAL,
            ResetRule.SUBTRACT,
            ResetRule.SUBTRACT,
            multi_spike=True,
            decay="exponential",
            readout_gain="r",
            r_integrator=("1",),
            r_leaky=("1",),
            r_filtered=("1",),
            dt=1.0,
            leak_and_reset="zero",
            wrong_tau="Sinabs counts tau in steps",
        ),
        Profile(
            "spikingjelly",
            Compare.GREATER_EQUAL,
            ResetRule.VALUE,
            ResetRule.VALUE,
            start="reset",
            r_integrator=("1/dt",),
            r_leaky=("1", "tau/dt"),
            r_filtered=("tau/dt",),
            usual_dt=1e-4,
            leak_and_reset="equal",
        ),
    )
}


@dataclass(frozen=True)
class ProfileChoice:
    """The profile, the time step (seconds; 1 where time is counted in steps) and who chose."""

    profile: Profile
    dt: float
    chosen_by: str

    def __str__(self) -> str:
        step = "one step" if self.dt == 1 else f"{self.dt:g} s"
        return f"{self.profile.name} (dt = {step}, {self.chosen_by}): {self.profile.summary}"


# --- resolution -------------------------------------------------------------------------------------


def resolve(raw: RawGraph, profile: str | None = None, dt: float | None = None) -> ProfileChoice:
    """Profile and time step of a file.

    Args:
        raw: the file's graph.
        profile: a name of ``PROFILES``; None to detect.
        dt: seconds per step; None to infer.

    Raises:
        NmcError: NMC-U03 for an unknown profile, NMC-U02 for a dt that is not positive, NMC-G06 when
            the file does not tell (the message names the profiles that fit), NMC-G07 when profile or
            dt contradict its numbers.
    """
    if profile is not None and profile not in PROFILES:
        remedy = nearest(profile, PROFILES) or f"profiles: {', '.join(PROFILES)}"
        raise NmcError("NMC-U03", profile, "is no import profile", remedy)
    if dt is not None and not (math.isfinite(dt) and dt > 0):
        raise NmcError("NMC-U02", "dt", f"{dt:g} s", "give a positive number of seconds")
    told = _told(raw)
    name, chosen_by = profile, "given"
    if told is not None:
        if profile is not None and profile != told:
            raise NmcError(
                "NMC-G07", raw.name, f"profile {profile} given, the file says {told}", "leave it out"
            )
        name, chosen_by = told, "from the file's metadata"
    if name is None:
        name, chosen_by = _detect(raw, dt), "detected"
    chosen = PROFILES[name]
    step = _time_step(raw, chosen, dt)
    for who, problem, remedy in contradictions(raw, chosen, step):
        raise NmcError("NMC-G07", who, f"{problem}, which profile {name} excludes", remedy)
    return ProfileChoice(chosen, step, chosen_by)


def _told(raw: RawGraph) -> str | None:
    told = raw.metadata.get("profile")
    if told is None:
        return None
    if not isinstance(told, str) or told not in PROFILES:
        problem = f"its metadata name an unknown import profile {str(told)[:40]!r}"
        raise NmcError("NMC-G06", raw.name, problem, f"profiles: {', '.join(PROFILES)}")
    return told


def _neurons(raw: RawGraph) -> list[tuple[str, RawNode]]:
    return list(raw.of(*INTEGRATORS, *LEAKY))


def _detect(raw: RawGraph, dt: float | None) -> str:
    if not _neurons(raw):
        return "nir"  # nothing in the file depends on the choice
    fitting = [name for name, profile in PROFILES.items() if _fits(raw, profile, dt)]
    rates = [node.array("r") for _, node in raw.of(*INTEGRATORS)]
    if rates and "spikingjelly" in fitting and all(r.min() >= DETECTABLE_RATE for r in rates):
        return "spikingjelly"  # no other exporter writes r = 1 / dt
    raise NmcError(
        "NMC-G06",
        raw.name,
        "does not say which framework's reset, comparison and decay it was trained with",
        f"give --profile; its numbers fit {', '.join(fitting)}" if fitting else "give --profile",
    )


def _fits(raw: RawGraph, profile: Profile, dt: float | None) -> bool:
    step = profile.dt or dt or infer_dt(raw, profile)
    return next(contradictions(raw, profile, step), None) is None


def infer_dt(raw: RawGraph, profile: Profile) -> float | None:
    """The time step that all numbers agree on, read as the profile's exporter writes them; None if none.

    IF: r = 1 / dt. Leaky neurons: r = tau / dt and w_in = tau_syn / dt. A factor of 1 says nothing.
    """
    pairs: list[tuple[FloatArray | float, FloatArray]] = []
    if "1/dt" in profile.r_integrator or not profile.r_integrator:
        pairs += [(1.0, node.array("r")) for _, node in raw.of(*INTEGRATORS)]
    for _, node in raw.of(*LEAKY):
        filtered = node.kind in FILTERED
        if "tau/dt" in (profile.r_filtered if filtered else profile.r_leaky):
            pairs.append((node.array("tau_mem" if filtered else "tau"), node.array("r")))
            pairs += [(node.array("tau_syn"), node.array("w_in"))] if filtered else []
    telling = [np.ravel(tau / factor) for tau, factor in pairs if factor.all() and not np.all(factor == 1)]
    if not telling:
        return None
    steps = np.concatenate(telling)
    if steps.min() <= 0 or steps.max() > steps.min() * (1 + RATIO_TOLERANCE):
        return None
    digits = 5 - math.floor(math.log10(steps.min()))
    return float(round(float(np.median(steps)), digits))  # float32 noise is no part of a time step


def _time_step(raw: RawGraph, profile: Profile, dt: float | None) -> float:
    told = raw.metadata.get("dt")
    said = float(told.reshape(())) if isinstance(told, np.ndarray) and told.size == 1 else None
    sources = (("profile " + profile.name, profile.dt), ("the file's metadata", said), ("--dt", dt))
    stated = [(who, value) for who, value in sources if value is not None]
    for who, value in stated[1:]:
        if value != stated[0][1]:
            problem = f"{who} says dt = {value:g}, {stated[0][0]} says {stated[0][1]:g}"
            raise NmcError("NMC-G07", raw.name, problem, "leave --dt out")
    if stated:
        return stated[0][1]
    inferred = infer_dt(raw, profile)
    if inferred is not None:
        return inferred
    for who, problem, remedy in contradictions(raw, profile, None):
        raise NmcError("NMC-G07", who, f"{problem}, which profile {profile.name} excludes", remedy)
    counts_steps = all(np.all(node.array("r") == 1) for _, node in raw.of(*INTEGRATORS))
    if counts_steps and not list(raw.of(*LEAKY)):
        return 1.0
    usual = f" (its exporter's default is {profile.usual_dt:g})" if profile.usual_dt else ""
    problem = f"does not say its time step, which profile {profile.name} needs"
    raise NmcError("NMC-G06", raw.name, problem, f"give --dt in seconds{usual}")


# --- contradictions ---------------------------------------------------------------------------------


def contradictions(raw: RawGraph, profile: Profile, dt: float | None) -> Iterator[tuple[str, str, str]]:
    """(node, problem, remedy) of every number that the profile's exporter cannot have written.

    ``dt`` None checks only what does not depend on it.
    """
    for name, node in _neurons(raw):
        yield from _wrong_r(name, node, profile, dt)
        yield from _wrong_potentials(name, node, profile)
        if node.kind in LEAKY and dt is not None:
            yield from _wrong_tau(name, node, profile, dt)


def _wrong_r(name: str, node: RawNode, profile: Profile, dt: float | None) -> Iterator[tuple[str, str, str]]:
    r = node.array("r")
    if node.kind in INTEGRATORS:
        rate = 1 / dt if dt is not None else None
        yield from _outside(name, "r", r, profile.r_integrator, {"1": 1.0, "1/dt": rate})
        if not profile.r_integrator and dt is not None:
            yield from _strange_gain(name, "r * dt", r * dt)
        return
    filtered = node.kind in FILTERED
    tau = node.array("tau_mem" if filtered else "tau")
    rules = profile.r_filtered if filtered else profile.r_leaky
    yield from _outside(name, "r", r, rules, {"1": 1.0, "tau/dt": None if dt is None else tau / dt})
    if filtered:
        unit = None if dt is None else node.array("tau_syn") / dt
        yield from _outside(name, "w_in", node.array("w_in"), rules, {"1": 1.0, "tau/dt": unit})
    elif not rules and dt is not None:
        yield from _strange_gain(name, "r * dt / tau", r * dt / tau)


def _outside(
    name: str,
    field: str,
    values: FloatArray,
    rules: tuple[str, ...],
    allowed: dict[str, FloatArray | float | None],
) -> Iterator[tuple[str, str, str]]:
    """A breach when every rule can be checked and none holds for all values."""
    units = [allowed[rule] for rule in rules]
    known = [np.asarray(unit) for unit in units if unit is not None]
    if rules and not known and np.all(values == 1):
        yield name, f"{field} = 1 instead of {' or '.join(rules)}", "choose another profile, or give --dt"
    if not rules or len(known) < len(units):
        return
    if any(np.allclose(values, unit, rtol=RATIO_TOLERANCE, atol=0) for unit in known):
        return
    texts = [
        rule if rule == "1" else f"{rule} = {unit.flat[0]:g}" for rule, unit in zip(rules, known, strict=True)
    ]
    yield name, f"{field} = {_span(values)} instead of {' or '.join(texts)}", "choose another profile or dt"


def _strange_gain(name: str, what: str, gain: FloatArray) -> Iterator[tuple[str, str, str]]:
    if gain.min() < GAIN_RANGE[0] or gain.max() > GAIN_RANGE[1]:
        problem = f"{what} = {_span(gain)}, far outside of {GAIN_RANGE[0]:g} to {GAIN_RANGE[1]:g}"
        yield name, problem, "check --dt, or choose the exporter's profile"


def _wrong_potentials(name: str, node: RawNode, profile: Profile) -> Iterator[tuple[str, str, str]]:
    values = {f: node.array(f) for f in ("v_leak", "v_reset") if f in node.fields}
    if profile.leak_and_reset == "zero":
        for field, potential in values.items():
            if potential.any():
                yield name, f"{field} = {_span(potential)} instead of 0", "choose another profile"
    if profile.leak_and_reset == "equal" and len(values) == 2:
        leak, reset = values["v_leak"], values["v_reset"]
        if not np.array_equal(leak, reset):
            problem = f"v_leak = {_span(leak)} differs from v_reset = {_span(reset)}"
            yield name, problem, "choose another profile"


def _wrong_tau(name: str, node: RawNode, profile: Profile, dt: float) -> Iterator[tuple[str, str, str]]:
    for field in ("tau", "tau_mem", "tau_syn"):
        if field in node.fields:
            tau = node.array(field)
            # A decay factor of exactly 0 is a memoryless neuron where the exporter starts from the factor.
            exact = "tau/dt" in profile.r_leaky
            lowest = float(tau.min())
            least = dt * (1 - RATIO_TOLERANCE if exact else 1 + RATIO_TOLERANCE)
            if lowest < least:
                remedy = profile.wrong_tau or "check --dt"
                yield name, f"{field} = {lowest:g} is not above dt = {dt:g}", remedy


def _span(values: FloatArray) -> str:
    lowest, highest = float(values.min()), float(values.max())
    return f"{lowest:g}" if lowest == highest else f"{lowest:g}..{highest:g}"
