"""Pictures in TensorBoard, through the trackers that a run has anyway."""

from collections.abc import Sequence
from typing import Any

from graphkd.pictures.canvas import drawn
from graphkd.pictures.gallery import Picture


@drawn
def log_pictures(trackers: Sequence[Any], pictures: Sequence[Picture], update: int) -> int:
    """Show pictures in TensorBoard.

    Args:
        trackers: of an ``accelerate.Accelerator``, open or finished; those that are not TensorBoard's are passed over.
        pictures: shown as ``pictures/<name>``.
        update: the step that they belong to.

    Returns: how many were written.
    Example: ``log_pictures(trainer.accelerator.trackers, section.pictures, result.updates)``
    """
    count = 0
    for writer in (each.writer for each in trackers if each.name == "tensorboard"):
        for picture in pictures:
            writer.add_figure(f"pictures/{picture.name}", picture.figure, update, close=False)
            count += 1
        writer.close()
    return count
