"""An ONNX model in 8-bit integers: calibrated, compared with the one in floating point, and timed."""

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import torch

from graphkd.data.tolerant import Portion
from graphkd.data.views import Batch
from graphkd.deploy.rounding import round_weights
from graphkd.deploy.sessions import onnx_scores
from graphkd.errors import DataError
from graphkd.files import write_file
from graphkd.typing import Float, Tensor

_GOOD = 0.995  # of the answers the same: from there on no other way is tried
_BATCH = 16  # images of a calibration batch; the histograms of one batch are in memory at a time


class Way(NamedTuple):
    """A way to choose the ranges of activations, and the layers that stay in floating point.

    Args:
        name: what it is called.
        method: of onnxruntime's ``CalibrationMethod``.
        first: share of the layers, from the first on, that stay in floating point; the last one stays with them.
    """

    name: str
    method: str
    first: float = 0.0

    def kept(self, layers: Sequence[str]) -> list[str]:
        """The layers that stay in floating point."""
        return [*layers[: ceil(self.first * len(layers))], *layers[-1:]] if self.first else []


WAYS: Final = (  # the cheaper ones first
    Way("smallest to largest", "MinMax"),
    Way("smallest to largest, first and last layer in float", "MinMax", first=1e-9),
    Way("smallest to largest, first sixth and last layer in float", "MinMax", first=1 / 6),
    Way("99.99 % of the values", "Percentile"),
    Way("99.99 % of the values, first sixth and last layer in float", "Percentile", first=1 / 6),
)


class _Reader:
    """Calibration images as onnxruntime asks for them: a range of batches at a time."""

    def __init__(self, images: Float[Tensor, "b 3 h w"]) -> None:
        size = min(_BATCH, len(images))  # histograms want batches of one size
        self.batches = [images[at : at + size].numpy() for at in range(0, len(images) - size + 1, size)]
        self.set_range(0, len(self.batches))

    def __len__(self) -> int:
        return len(self.batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Which batches come next."""
        self.left = iter(self.batches[start_index:end_index])

    def get_next(self) -> dict[str, Any] | None:
        """The next batch, or ``None``."""
        found = next(self.left, None)
        return None if found is None else {"images": found}


def quantise(model: Path, out: Path, images: Float[Tensor, "b 3 h w"], way: Way = WAYS[0]) -> None:
    """Write a model in 8-bit integers: weights per channel, activations per tensor, as QDQ nodes of ONNX.

    Weights are rounded by :func:`~graphkd.deploy.rounding.round_weights`, so that channels keep their means.

    Args:
        model: ONNX file in floating point that takes ``images``.
        out: file to write, whole or not at all.
        images: some hundred, as the model will see them; they fix the ranges of the activations.
        way: how.

    Raises: FileError where the disk is full.

    Example: ``quantise(Path("model.onnx"), Path("model.int8.onnx"), images)``
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory(prefix="graphkd.") as folder, _silent():
        prepared = Path(folder) / "model.onnx"
        quant_pre_process(str(model), str(prepared))
        layers = [node.name for node in onnx.load(prepared).graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
        kept = way.kept(layers)
        round_weights(prepared, images, kept)
        options = {"CalibTensorRangeSymmetric": False, "CalibPercentile": 99.99, "CalibStridedMinMax": 1}
        write_file(
            out,
            lambda temporary: quantization.quantize_static(
                str(prepared),
                str(temporary),
                _Reader(images),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=kept,
                calibrate_method=getattr(quantization.CalibrationMethod, way.method),
                extra_options=options,
            ),
        )


def best_int8(
    model: Path,
    out: Path,
    images: Float[Tensor, "b 3 h w"],
    others: Float[Tensor, "n 3 h w"],
    ways: Sequence[Way] = WAYS,
) -> dict[str, float]:
    """Write a model in 8-bit integers by the first way that answers alike, else by the best of them.

    Args:
        model: ONNX file in floating point that takes ``images``.
        out: file to write, whole or not at all.
        images: to calibrate on.
        others: to compare the ways on, best such as the model was not trained on: of its own it is too sure.
        ways: in the order in which they are tried.

    Returns: the share of equal answers on ``others`` of each way that was tried, in [0, 1]; the last is the one taken.
    """
    expected, tried = _answers(onnx_scores(model), others), dict[str, float]()
    with TemporaryDirectory(prefix="graphkd.") as folder:
        for way in ways:
            made = Path(folder) / way.name
            quantise(model, made, images, way)
            tried[way.name] = float((_answers(onnx_scores(made), others) == expected).float().mean())
            if tried[way.name] >= _GOOD:
                break
        best = max(tried, key=lambda name: tried[name])
        write_file(out, lambda temporary: shutil.copyfile(Path(folder) / best, temporary))
    tried[best] = tried.pop(best)
    return tried


def _answers(scores: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([scores(each).argmax(1) for each in torch.split(images, 64)])


@dataclass
class Comparison:
    """Two models on the same images.

    Args:
        images: how many.
        same: how many get the same answer.
        right: how many each has right, where there are labels.
        labelled: whether there are.
    """

    images: int = 0
    same: int = 0
    right: tuple[int, int] = (0, 0)
    labelled: bool = False

    def numbers(self) -> dict[str, float | None]:
        """Shares in [0, 1]: ``agreement``, ``top1_float``, ``top1_int8``; ``None`` without labels."""
        top1 = [each / self.images if self.labelled else None for each in self.right]
        return {"agreement": self.same / self.images, "top1_float": top1[0], "top1_int8": top1[1]}


def compare(model: Path, quantised: Path, loader: Iterable[Batch | Portion]) -> Comparison:
    """How alike two ONNX files answer, and how often they are right.

    Args:
        loader: batches, with labels or without; images that cannot be read are left out.

    Raises: DataError for no image.
    """
    both, found = [onnx_scores(each) for each in (model, quantised)], Comparison()
    for each in loader:
        batch = each.batch if isinstance(each, Portion) else each
        if batch is None:
            continue
        first, second = (scores(batch.student).argmax(1) for scores in both)
        found.images += len(batch)
        found.same += int((first == second).sum())
        if batch.target is not None:
            right = [int((answer == batch.target).sum()) for answer in (first, second)]
            found.right = (found.right[0] + right[0], found.right[1] + right[1])
            found.labelled = True
    if not found.images:
        raise DataError("no image to compare on can be read: look at the files")
    return found


@contextmanager
def _silent() -> Iterator[None]:
    """onnxruntime prints the steps of its histograms, and warns of a preparation that was done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        root.setLevel(level)
