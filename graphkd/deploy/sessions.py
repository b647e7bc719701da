"""ONNX files run by ONNX Runtime on the CPU: their scores, and how long they take."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphkd.typing import Float, Tensor

_WARM_UP, _MOST = 5, 200  # calls before the clock runs, and calls that are timed


def session(model: Path | bytes, threads: int = 0) -> Any:
    """An ONNX file, or its bytes, that takes ``images`` and gives scores.

    Args:
        threads: of one call; 0 leaves the number to ONNX Runtime.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def onnx_scores(path: Path) -> Callable[[Tensor], Tensor]:
    """An ONNX model as a callable, run by onnxruntime on the CPU.

    Shapes: images (b, 3, h, w) -> scores (b, c).
    """
    import torch

    opened = session(path)
    return lambda images: torch.from_numpy(opened.run(None, {"images": images.numpy()})[0])


def latency(
    files: Mapping[str, Path], image: Float[Tensor, "1 3 h w"], seconds: float = 3.0
) -> dict[str, dict[str, float]]:
    """How long one call takes, one image at a time, on all cores that this process may use.

    The files take turns, so that whatever else the machine does burdens all of them alike.

    Args:
        files: what to time, by name.
        image: what they are shown.
        seconds: at most, for all of them together.

    Returns: by name: ``median``, ``p10`` and ``p90`` in milliseconds, ``calls`` and ``threads``.
    """
    from graphkd.training.devices import processors

    threads = processors()
    opened = {name: session(path, threads) for name, path in files.items()}
    fed, times = {"images": image.numpy()}, {name: list[float]() for name in files}
    end = time.perf_counter() + seconds
    for call in range(_WARM_UP + _MOST):
        for name, each in opened.items():
            before = time.perf_counter()
            each.run(None, fed)
            if call >= _WARM_UP:
                times[name].append(1e3 * (time.perf_counter() - before))
        if call > _WARM_UP and time.perf_counter() > end:
            break
    return {name: {**_quantiles(found), "calls": len(found), "threads": threads} for name, found in times.items()}


def _quantiles(found: list[float]) -> dict[str, float]:
    p10, median, p90 = np.quantile(found, [0.1, 0.5, 0.9]).tolist()
    return {"median": median, "p10": p10, "p90": p90}
