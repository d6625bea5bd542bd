"""NIR's neurons in the op graph's normal form, under an import profile."""

from __future__ import annotations

import numpy as np

from nmc.errors import NmcError
from nmc.frontend.opgraph import Neuron, ResetRule
from nmc.frontend.profiles import FILTERED, INTEGRATORS, LEAKY, RATIO_TOLERANCE, ProfileChoice
from nmc.frontend.raw import RawNode
from nmc.ir import Compare, FloatArray

NEURONS = (*INTEGRATORS, *LEAKY, "Threshold")
READOUTS = ("I", "LI", "CubaLI")

WHOLE = 1e-6
"""Ratios this close to a whole number are that number: float32 noise in tau must not turn a tie with the
threshold into a miss."""


def neuron_op(name: str, node: RawNode, choice: ProfileChoice) -> Neuron:
    """The neuron with the profile's reset, comparison and discretisation.

    All arrays keep the node's shape. ``choice`` has been checked against the numbers (``resolve``).

    Raises NmcError NMC-F04 for a threshold that is not above the reset potential.
    """
    profile = choice.profile
    if node.kind == "Threshold":
        return Neuron(node.array("threshold"), keep_v=_const(0.0), compare=Compare.GREATER)
    zeros = np.zeros_like(node.array("r"))
    v_leak = node.array("v_leak") if "v_leak" in node.fields else zeros
    v_reset = node.array("v_reset") if "v_reset" in node.fields else zeros
    keep_v, gain = _membrane(node, choice)
    keep_u, w_in = _const(0.0), _const(1.0)
    if node.kind in FILTERED:
        keep_u, loss = _decay(node.array("tau_syn"), choice)
        w_in = node.array("w_in")
        if profile.r_filtered == ("tau/dt",):
            w_in = np.ones_like(w_in)
        elif not profile.jump:
            w_in = whole(w_in * loss)
    reset = profile.reset_filtered if node.kind in FILTERED else profile.reset
    start = {"zero": zeros, "leak": v_leak, "reset": v_reset}[profile.start]
    fires = node.kind not in READOUTS
    if fires and (node.array("v_threshold") <= (v_reset if reset is ResetRule.VALUE else 0)).any():
        problem = f"threshold {node.array('v_threshold').min():g} is not above the reset potential"
        raise NmcError("NMC-F04", name, problem, "it would fire without input; check the file")
    return Neuron(
        node.array("v_threshold") if fires else None,
        keep_v,
        gain,
        v_leak,
        v_reset if reset is ResetRule.VALUE else zeros,
        keep_u,
        w_in,
        start,
        reset,
        profile.compare,
        profile.multi_spike and fires,
    )


def _membrane(node: RawNode, choice: ProfileChoice) -> tuple[FloatArray, FloatArray]:
    """keep_v and gain."""
    profile, dt, r = choice.profile, choice.dt, node.array("r")
    if node.kind in INTEGRATORS:
        # Norse and Sinabs add the input whatever dt is; where r = 1/dt the product is 1 by construction.
        gain = r if profile.r_integrator == ("1",) else whole(r * dt)
        return np.ones_like(r), np.ones_like(r) if profile.r_integrator == ("1/dt",) else gain
    tau = node.array("tau_mem" if node.kind in FILTERED else "tau")
    keep, loss = _decay(tau, choice)
    rules = profile.r_filtered if node.kind in FILTERED else profile.r_leaky
    if "tau/dt" in rules and np.allclose(r, tau / dt, rtol=RATIO_TOLERANCE, atol=0):
        return keep, np.ones_like(r)
    if node.kind in READOUTS and profile.readout_gain == "r":
        return keep, r
    return keep, whole(loss * r)


def _decay(tau: FloatArray, choice: ProfileChoice) -> tuple[FloatArray, FloatArray]:
    """What is left of a state after one step, and what is lost."""
    ratio = whole(tau / choice.dt)
    if choice.profile.decay == "exponential":
        return np.exp(-1 / ratio), -np.expm1(-1 / ratio)
    return 1 - 1 / ratio, 1 / ratio


def whole(values: FloatArray) -> FloatArray:
    """The nearest whole numbers where they are closer than ``WHOLE`` (relative)."""
    nearest = np.rint(values)
    return np.where(np.abs(values - nearest) <= WHOLE * np.abs(values), nearest, values)


def _const(value: float) -> FloatArray:
    return np.asarray(value, np.float64)
