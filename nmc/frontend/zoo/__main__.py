"""``python -m nmc.frontend.zoo [NAME ...]``: counts of the reference networks as a Markdown table."""

from __future__ import annotations

import sys

from nmc.frontend.zoo import NETWORKS
from nmc.frontend.zoo.table import lines


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in NETWORKS]
    if unknown:
        print(f"{unknown[0]} is no network of the zoo; there are: {', '.join(NETWORKS)}", file=sys.stderr)
        return 2
    for line in lines(names or NETWORKS):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
