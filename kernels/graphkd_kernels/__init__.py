"""Kernels of graphkd: pairwise similarity and edge alignment, behind one dispatcher. Knows torch, never graphkd."""

from graphkd_kernels.dispatch import BackendUnavailableError, available, backend
from graphkd_kernels.plans import explain

__all__ = ["BackendUnavailableError", "available", "backend", "explain"]
