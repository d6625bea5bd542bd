"""Lava exists for Python 3.10 only; elsewhere only ``test_without_lava.py`` can run."""

import sys

NAMES = (
    *("any_partition", "deep", "defects", "networks", "netx", "neurons", "quirks", "run", "synapses"),
    "tiles",
)
WITH_LAVA = [f"test_{name}.py" for name in NAMES]

collect_ignore = [] if sys.version_info[:2] == (3, 10) else WITH_LAVA
