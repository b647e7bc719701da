"""Kernels of graphkd: pairwise similarity and edge alignment, behind one dispatcher."""
