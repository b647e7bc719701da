"""Functions of other libraries that do the same work as an operation of ours; each import happens when it is asked for.

They come with ``pip install "graphkd[bench-peers]"``. A peer that is absent, or needs another device, leaves its cell
with the reason.
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import Function, UnavailableError


def _loss(name: str, *args: Any, **options: Any) -> Function:
    """A torchdistill loss of two plain tensors; it reads them out of records of module outputs."""
    import torchdistill.losses.mid_level as losses

    loss = getattr(losses, name)(*args, **options)

    def call(student: Tensor, teacher: Tensor, *_: Tensor) -> Tensor:
        return loss({"x": {"output": student}}, {"x": {"output": teacher}})

    return call


def _on_gpu(library: str, call: Callable[..., Any]) -> Function:
    """A call of kernels that other devices have not."""

    @wraps(call)
    def run(*tensors: Tensor) -> Any:
        if not tensors[0].is_cuda:
            raise UnavailableError(f"{library}'s kernels need a GPU")
        return call(*tensors)

    return run


def torchdistill_rkd(distance: float, angle: float, scale: float = 1.0) -> Function:
    """RKD's two terms, at weights."""
    loss = _loss("RKDLoss", "x", "x", distance, angle, "mean")
    return lambda s, t: scale * len(s) ** (3 if angle and not distance else 0) * loss(s, t)


def torchdistill_sp() -> Function:
    """Similarity-preserving KD, summed."""
    return _loss("SPKDLoss", "x", "x", "sum")


def torchdistill_pkt() -> Function:
    """PKT."""
    return _loss("PKTLoss", "x", "output", "x", "output")


def torchdistill_dist() -> Function:
    """DIST."""
    return _loss("DISTLoss", "x", "output", "x", "output")


def metric_squared() -> Function:
    """pytorch-metric-learning's matrix of squared distances."""
    from pytorch_metric_learning.distances import LpDistance

    measure = LpDistance(normalize_embeddings=False, power=2)
    return lambda x, y: measure(x, y)


def liger_kl(temperature: float) -> Function:
    """Liger's divergence of softmax rows, one number a row."""
    from liger_kernel.transformers import LigerKLDIVLoss

    loss = LigerKLDIVLoss(reduction="none", log_target=True)

    def call(student: Tensor, teacher: Tensor) -> Tensor:
        return loss((student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)).sum(-1)

    return _on_gpu("Liger", call)


def memeff_info_nce(temperature: float) -> Function:
    """memeff's contrast of each row of x with the same row of y, which has no gradient, summed.

    Its mean, with the plain gradient (``stable=False``) and without a mask of false negatives (``margin=2``).
    """
    from memeff import MemoryEfficientLiTQwen3Loss

    loss = MemoryEfficientLiTQwen3Loss(temperature=temperature, margin=2.0, stable=False)
    return _on_gpu("memeff", lambda x, y, _: len(x) * loss(x, y))


def siglip_kernel(scale: float, bias: float) -> Function:
    """siglip-kernel's loss of unit rows at a fixed scale and bias, summed."""
    from siglip_kernel import fused_siglip_loss

    def call(x: Tensor, y: Tensor) -> Tensor:
        x, y = (torch.nn.functional.normalize(each, dim=1) for each in (x, y))
        log_scale, shift = (torch.full((), each, device=x.device) for each in (math.log(scale), bias))
        return len(x) * fused_siglip_loss(x, y, log_scale, shift)

    return _on_gpu("siglip-kernel", call)


def flashlib_nearest(k: int) -> Function:
    """flashlib's nearest rows, of which the first is the row itself."""
    from flashlib import flash_knn

    def call(x: Tensor) -> tuple[Tensor, Tensor]:
        values, indices = flash_knn(x, x, k + 1)
        return indices[:, 1:], values[:, 1:]

    return _on_gpu("flashlib", call)


def keops_nearest(k: int) -> Function:
    """KeOps' nearest rows, of which the first is the row itself."""
    from pykeops.torch import LazyTensor

    def call(x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = LazyTensor(x[:, None].contiguous()), LazyTensor(x[None].contiguous())
        values, indices = ((a - b) ** 2).sum(-1).Kmin_argKmin(k + 1, dim=1)
        return indices[:, 1:], values[:, 1:]

    return call
