"""python -m graphkd_kernels.tune: verify every backend against float64 on this machine, time it, and keep the plan.

The same as ``graphkd tune``. ``auto`` then runs the fastest of those that are right.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

BUDGET = 180.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 1 if something is wrong, 2 if the plan cannot be written, 130 if interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds (default 180)")
    parser.add_argument("--operations", default="", help="some of them, with commas (default all)")
    parser.add_argument("--out", type=Path, help="folder that gets every row as it comes, and a copy of the plan")
    given = parser.parse_args(arguments)
    from graphkd_kernels.tuning.run import tune

    operations = [name.strip() for name in given.operations.split(",") if name.strip()]
    try:
        found, path = tune(given.budget, operations, given.out, partial(print, flush=True))
    except (OSError, ValueError) as why:
        print(f"error: {why}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: what was measured is kept and used", file=sys.stderr)
        return 130
    print(f"{found.checks} checks, {len(found.failures)} failures, {found.seconds:.0f} s: {path}")
    return int(bool(found.failures))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was measured is kept then too
    sys.exit(main())
