"""The product's own measurements. `python -m tests.bench [NAME…]`; without a name, all that don't take hours.

Each prints a table of Markdown and says on what it ran. Figures are for comparing with others of the same run: machines
differ, and so do their neighbours.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BENCHES = ("decision", "recognition", "payload", "discovery", "masking", "log_size", "memory", "relay")
#: Learning at length, into documents of their own: only when named.
DOCUMENTS = ("tasks", "clinc150")
HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def main(names: list[str]) -> int:
    """Run benches by name, each in a process of its own; returns how many failed."""
    unknown = sorted({*names} - {*BENCHES, *DOCUMENTS})
    if unknown:
        print(f"no such bench: {', '.join(unknown)}; there are {', '.join((*BENCHES, *DOCUMENTS))}")
        return 2
    failed = 0
    for name in names or BENCHES:
        print(f"\n## {name}\n", flush=True)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        failed += subprocess.run([sys.executable, HERE / f"{name}.py"], cwd=ROOT, env=environment).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
