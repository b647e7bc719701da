"""graphkd tune: the kernels verified and timed on this machine, and the plan that 'auto' follows."""

from dataclasses import dataclass
from pathlib import Path

from cyclopts.types import PositiveFloat

from graphkd.cli.console import Console
from graphkd.cli.errors import UsageError
from graphkd.cli.option_groups import Command


@dataclass(frozen=True, kw_only=True)
class Tune(Command):
    """Verify every kernel against float64 on this machine, time it, and keep the plan that auto follows.

    Each operation has a process of its own with a time limit: one that crashes or hangs is named and left out, and the
    rest goes on. The plan is kept in the cache folder, or in the file that GRAPHKD_PLAN names. graphkd doctor shows it.
    Exit code 1 if a kernel is wrong here.

    Args:
        budget: seconds; all is verified first, then timed, the most used operations first.
        operations: some of them; of the others an earlier plan is kept. Default all.
        out: folder that gets every measurement as it comes, and a copy of the plan.

    Example::

        graphkd tune
        graphkd tune --operations edge_kl,row_kl --budget 30
    """

    budget: PositiveFloat = 180.0
    operations: tuple[str, ...] = ()
    out: Path | None = None


def run(config: Tune = Tune(), *, console: Console) -> int:  # it is frozen
    """The kernels on this machine."""
    from graphkd import ops

    console.go_on = ("what was measured is kept and used", "run it again for the rest")
    try:
        found, path = ops.tune(config.budget, config.operations, config.out, console.remark)
    except ValueError as error:
        what, _, todo = str(error).partition(": ")
        raise UsageError(what, todo) from None
    wrong, seconds = found.failures, round(found.seconds, 1)
    timed = len(set(found.operations.values()))
    text = f"{found.checks} checks in {seconds:.0f} s, {len(wrong)} failures, {timed} operations timed"
    text += f"; auto now follows {path}"
    data = {"good": not wrong, "checks": found.checks, "seconds": seconds, "failures": wrong, "left": found.left}
    console.result(data | {"plan": str(path)}, "\n".join([*wrong, text]))
    return int(bool(wrong))
