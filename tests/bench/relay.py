"""Relay: calls and streamed tokens a second, added latency, side by side. `python tests/bench/relay.py [OPTION…]`.

The harness that compares gateways is not part of this repository: it is looked for in `../shared/bench`. It gives each
gateway one core, sends all the same load in turns against one simulated LLM, and freezes those whose turn it isn't. Its
options can be given here: `--targets direct,litellm,understudy --rounds 3 --out results.md`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HARNESS = HERE.parents[2] / "shared" / "bench" / "run.py"
QUICK = ["--targets", "direct,nginx,prototype,understudy", "--quick"]


def main(options: list[str]) -> int:
    """Run the harness with this product as one of its targets."""
    if not HARNESS.exists():
        print(f"not measured: no harness at {HARNESS}")
        return 0
    return subprocess.run(
        [sys.executable, HARNESS, "--targets-file", HERE / "targets.toml", *(options or QUICK)]
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
