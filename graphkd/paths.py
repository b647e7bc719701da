"""Paths that users give; free of torch, so that the command line may import it before anything else."""

import os
from pathlib import Path


def local_path(path: str | os.PathLike[str]) -> Path:
    """A path as the shell reads it: ``~`` at its start is the home directory, that of a user after ``~name``.

    Example: ``local_path("~/photos")``
    """
    return Path(os.path.expanduser(path))
