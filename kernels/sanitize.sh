#!/bin/sh
# Memory errors and races in the kernels, on a GPU: ./kernels/sanitize.sh [tests, default all of tests/kernels/triton].
# Small shapes only: compute-sanitizer slows a kernel down by one to two orders of magnitude.
set -eu
cd "$(dirname "$0")/.."
command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not there: it comes with the CUDA toolkit" >&2; exit 2; }
for tool in memcheck racecheck synccheck; do
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --error-exitcode 1 --target-processes all \
        "${PYTHON:-python}" -m pytest "${@:-tests/kernels/triton}" -q -m "gpu and not slow" \
        -k "not 32_bits and not cuda_graph and not derivatives"
done
