"""Every error of graphkd, under one base class; each message says what was expected, what was found, and what to do."""

from graphkd.text import shown


class GraphKDError(Exception):
    """Base class of every error that graphkd raises on purpose; names in it cannot act on what shows it."""

    def __str__(self) -> str:
        return shown(super().__str__(), keep="\n")


class ShapeError(GraphKDError, ValueError):
    """Tensors do not fit together."""


class OptionError(GraphKDError, ValueError):
    """An option has a value that does not exist or makes no sense."""


class ArgumentTypeError(GraphKDError, TypeError):
    """An argument is of a kind that is not taken."""


class UnknownNameError(OptionError):
    """A name is not in its registry; the message suggests the nearest and lists all."""


class MissingFeatureError(GraphKDError, ValueError):
    """A method needs a part of ``Features`` (or an argument) that is absent."""


class GraphError(GraphKDError):
    """A graph was asked for something that it does not hold."""


class BackendError(GraphKDError, RuntimeError):
    """A kernel backend that was asked for by name cannot run."""


class HeadError(GraphKDError, ValueError):
    """No loss term reaches the student's classifier, which would stay untrained."""


class TapError(GraphKDError, ValueError):
    """A model cannot be tapped: no classifier, or several, were found."""


class TeacherError(GraphKDError, ValueError):
    """A teacher cannot be built or lacks what is asked of it."""


class DataError(GraphKDError, ValueError):
    """A data set, folder, image or list of class names is unusable."""


class StoreError(GraphKDError, ValueError):
    """An embedding store is incomplete, damaged, or belongs to another teacher, prompt set, data set or transform."""


class CheckpointError(GraphKDError, ValueError):
    """A checkpoint is unreadable or belongs to another model."""


class FileError(GraphKDError):
    """A file cannot be written; the message says what is left and how to go on."""


class LockedError(GraphKDError, RuntimeError):
    """A folder is being written by another process; the message names it."""


class NonFiniteError(GraphKDError, ArithmeticError):
    """A loss term or a gradient is NaN or infinite; the message names it."""


class DistributedError(GraphKDError, RuntimeError):
    """The way several devices are used cannot give the right graph."""
