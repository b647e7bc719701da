"""A new run from the weights of an earlier one: how training goes on longer than it was planned for."""

from pathlib import Path

from graphkd.errors import CheckpointError
from graphkd.files import local_path
from graphkd.models.tap import Tap
from graphkd.models.weights import fit_weights
from graphkd.step import Step
from graphkd.training.checkpoint import Checkpoints, check_weights, student_weights


def start_from(step: Step, run: Path | str) -> list[str]:
    """Fill a student and its methods with what another run trained; optimiser and schedule begin anew.

    Args:
        step: of the new run.
        run: the folder of the earlier one. Of its student the moving average is taken where it kept one.

    Returns: names of what starts fresh: a classifier of other classes, and methods that the earlier run did not have or
        had with other sizes.
    Raises: CheckpointError for a run without a checkpoint, or with another student.
    Example: ``start_from(Step(student, prg), "runs/photos-1")`` is ``[]``
    """
    weights = student_weights(run)
    if isinstance(step.student, Tap):
        fresh = fit_weights(step.student, weights, str(run))
    else:
        check_weights(step.student.state_dict(), weights, str(run))
        step.student.load_state_dict(weights)
        fresh = []
    return [*fresh, *_start_methods(step, local_path(run))]


def _start_methods(step: Step, run: Path) -> list[str]:
    newest = Checkpoints(run / "checkpoints").newest()
    if newest is None:
        raise CheckpointError(f"{run} holds no checkpoint: is it the folder of a run?")
    prefix, own = "distillers.", step.distillers.state_dict()
    found = {name.removeprefix(prefix): w for name, w in newest[1]["step"].items() if name.startswith(prefix)}
    if not own:
        return []
    if {name: w.shape for name, w in own.items()} != {name: w.shape for name, w in found.items()}:
        return [prefix + name for name in own]
    step.distillers.load_state_dict(found)
    return []
