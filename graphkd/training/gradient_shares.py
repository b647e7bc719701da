"""How strongly each loss term pulls at the student: its share of the gradient."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from graphkd import distributed
from graphkd.chunks import preserve_buffers
from graphkd.errors import OptionError
from graphkd.typing import Float, Tensor


def gradient_shares(losses: Mapping[str, Float[Tensor, ""]], parameters: Iterable[Tensor]) -> dict[str, float]:
    r"""Each term's share of the gradient, over the parameters that all terms reach.

    .. math:: s_k = \lVert g_k \rVert \,/ \sum_j \lVert g_j \rVert, \qquad g_k = \partial L_k / \partial \theta

    A term of share 0.01 hardly moves the student, however large its value is. Call it before ``backward()``: it costs
    one backward pass per term and a wait for the device, and leaves ``.grad`` as it is. Over several ranks gradients
    are averaged first, as DDP does it, so that every rank has to call it.

    Args:
        losses: named terms with their weights inside, such as what a ``Step`` returns.
        parameters: such as ``student.parameters()``; frozen ones are left out.

    Returns: name -> share, which sum to 1. A term that reaches none of the parameters has share 0, and so have all
    where every gradient is 0. A gradient that is not finite makes shares NaN.
    Raises: OptionError if there is no parameter that all other terms reach.
    Example: ``gradient_shares(step(images, teacher(images)), step.student.parameters())``
    """
    known = [each for each in parameters if each.requires_grad]
    norms = {name: _norms(loss, known) for name, loss in losses.items()}
    pulling = [name for name, found in norms.items() if found]
    common = set(range(len(known))).intersection(*(norms[name] for name in pulling))
    if pulling and not common:
        raise OptionError(
            f"the terms {', '.join(pulling)} reach no parameter in common, so that their gradients have no shares: "
            "give parameters that all of them reach, or set log_gradient_shares=0"
        )
    shares = dict.fromkeys(losses, 0.0)
    if pulling:
        sizes = torch.stack([torch.stack([norms[name][i] for i in sorted(common)]).norm() for name in pulling])
        total = sizes.sum()
        shares |= dict(zip(pulling, torch.where(total == 0, 0.0, sizes / total).tolist(), strict=True))
    return shares


def shares_of_update(step: Any, losses: Mapping[str, Tensor], scaler: torch.amp.GradScaler) -> dict[str, float]:
    """The shares over the student's parameters, by the names of the log; nothing in the step moves.

    Args:
        step: a :class:`graphkd.step.Step`, whose chunks run again for each term.
        losses: of one of its batches.
        scaler: of the losses, so that 16-bit gradients do not vanish; shares do not depend on the scale.
    """
    again = [each for each in step.distillers if each.global_batch == "per_image"]
    with preserve_buffers(step.student, *again):
        scaled = {name: scaler.scale(loss) for name, loss in losses.items()}
        shares = gradient_shares(scaled, step.student.parameters())
    return {f"gradient_share/{name}": share for name, share in shares.items()}


def _norms(loss: Tensor, parameters: list[Tensor]) -> dict[int, Tensor]:
    """Place among the parameters -> norm of the gradient there, of those that the term reaches."""
    if not loss.requires_grad or not parameters:
        return {}
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    found = {i: gradient for i, gradient in enumerate(gradients) if gradient is not None}
    world = distributed.world_size()
    if world > 1 and found:
        mean = distributed.total(torch.cat([each.flatten() for each in found.values()])) / world
        parts = torch.split(mean, [each.numel() for each in found.values()])
        found = dict(zip(found, parts, strict=True))
    return {i: torch.linalg.vector_norm(each) for i, each in found.items()}
