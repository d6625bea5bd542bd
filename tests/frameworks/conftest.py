"""Needs the frameworks (Python 3.11, see .ci/run); in other environments nothing here is collected."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("spikingjelly") else ["test_*.py"]
