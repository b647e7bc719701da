"""Errors of the kernels. Nothing is imported here, so that every module may raise them."""


class BackendUnavailableError(RuntimeError):
    """A backend asked for by name cannot run here, cannot run at all, or lacks the operation."""

    @classmethod
    def because(cls, name: str, why: str) -> "BackendUnavailableError":
        """The error of a backend that cannot run, with the reason and what to do."""
        return cls(f"backend {name!r} cannot run: {why}")
