"""Lava exists for Python 3.10 only; elsewhere only ``test_without_lava.py`` can run."""

import sys

WITH_LAVA = ["test_networks.py", "test_neurons.py", "test_quirks.py", "test_run.py", "test_synapses.py"]

collect_ignore = [] if sys.version_info[:2] == (3, 10) else WITH_LAVA
