"""Channels as graphs: vertices, edges, spectra."""

from benchmarks.method import method

CASES = [method("crg", "maps logits", "no formula has been published")]
