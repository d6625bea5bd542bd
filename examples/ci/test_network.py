"""What this repository promises about its network; ``pytest --nmc-update-golden`` accepts a new state."""

from pathlib import Path

import numpy as np
import pytest

import nmc

HERE = Path(__file__).parent
CHIP = "loihi2"


@pytest.fixture(scope="module")
def bundle():
    return nmc.compile(HERE / "model.nir", CHIP, np.load(HERE / "samples.npz")["x"])


def test_same_network_same_spikes(bundle, nmc_golden):
    nmc_golden(bundle, "network")


def test_not_more_expensive(bundle, nmc_gate):
    nmc_gate(bundle, name="network")


def test_fits_one_chip(bundle):
    assert bundle.network.mapping.cores_used <= 4
