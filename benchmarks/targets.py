"""How results are judged by the targets, which are the kernels' (``graphkd_kernels.targets``)."""

from graphkd_kernels.targets import TARGETS as TARGETS
from graphkd_kernels.targets import Target as Target

LAUNCH = 3.0  # µs; below such a floor a kernel is bound by its launch, and the wall clock counts
NAMED = 0.6  # of its target: what is below is named, with the reason
