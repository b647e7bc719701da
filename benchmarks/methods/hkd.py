"""Instances and graphs against a memory of all samples."""

from benchmarks.method import SAMPLES, method

WHY = "its published code draws negatives anew in each call"
OPTIONS = {"num_samples": SAMPLES, "negatives": 1024}
CASES = [method("hkd", "embedding logits", WHY, OPTIONS)]
