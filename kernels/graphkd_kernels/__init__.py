"""Kernels of graphkd: pairwise similarity and edge alignment, behind one dispatcher. Knows torch, never graphkd."""

from graphkd_kernels.dispatch import available, backend, explain
from graphkd_kernels.errors import BackendUnavailableError

__all__ = ["BackendUnavailableError", "available", "backend", "explain"]
