"""Kernels of graphkd: pairwise similarity and edge alignment, behind one dispatcher. Knows torch, never graphkd."""

from graphkd_kernels.dispatch import BackendUnavailableError, available, backend

__all__ = ["BackendUnavailableError", "available", "backend"]
