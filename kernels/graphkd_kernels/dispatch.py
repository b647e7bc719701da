"""Which implementation of an operation runs: one asked for by name runs or raises, ``auto`` may fall back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from graphkd_kernels import reference

Operation = Callable[..., Any]

_BACKENDS: dict[str, dict[str, Operation]] = {
    "eager": {
        name: getattr(reference, name)
        for name in (
            "safe_sqrt",
            "unit_rows",
            "center_normalize",
            "gram",
            "squared_distances",
            "row_kl",
            "row_pearson",
            "knn",
            "unit_gram",
            "pair_squares",
            "rkd_distances",
            "rkd_distance",
            "rkd_angle",
            "damped_row_pearson",
        )
    }
}
_ASKED: ContextVar[str] = ContextVar("graphkd_backend", default="auto")
_REMEDY = {
    "triton": "this version has no Triton kernels",
    "blocked": "this version has no blocked kernels",
}


class BackendUnavailableError(RuntimeError):
    """A backend asked for by name has no implementation."""


def available() -> list[str]:
    """Names that ``backend`` accepts here."""
    return ["auto", *sorted(_BACKENDS)]


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Use one backend inside the ``with`` block.

    Args:
        name: ``"auto"`` or one of :func:`available`.

    Raises: BackendUnavailableError for a backend that is not there.
    """
    if name not in available():
        why = _REMEDY.get(name, "no such backend is known")
        raise BackendUnavailableError(f"backend {name!r} cannot run: {why}; available here: {', '.join(available())}")
    token = _ASKED.set(name)
    try:
        yield
    finally:
        _ASKED.reset(token)


def find(operation: str) -> Operation | None:
    """The implementation that runs now, or ``None`` where the backend has no such (fused) operation."""
    asked = _ASKED.get()
    return _BACKENDS["eager" if asked == "auto" else asked].get(operation)


def run(operation: str, *args: Any) -> Any:
    """Call an operation that every backend has."""
    implementation = find(operation)
    assert implementation is not None, operation
    return implementation(*args)
