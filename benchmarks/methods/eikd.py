"""Explicit features, implicit relations and trusted classes."""

from benchmarks.method import method

CASES = [method("eikd", "embedding logits", "no formula has been published")]
