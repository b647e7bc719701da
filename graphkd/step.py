"""Everything with gradient in one module: what DDP, FSDP2 and ``torch.compile`` wrap."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from graphkd import chunks
from graphkd.distillers.base import Distiller
from graphkd.distributed import mean_over_batch
from graphkd.errors import ArgumentTypeError, DistributedError, HeadError, MissingFeatureError, OptionError
from graphkd.features import Features
from graphkd.losses import Losses, cross_entropy
from graphkd.typing import Float, Int, Tensor

Task = Callable[[Tensor, Tensor], Tensor]


def labelled_cross_entropy(logits: Float[Tensor, "b c"], target: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    r"""Cross-entropy over the labelled samples of a batch; a label below 0 means that there is none.

    .. math:: L = \sum_{i: y_i \ge 0} \mathrm{CE}(z_i, y_i) \,/\, \max(1, \#\{i: y_i \ge 0\})

    over the samples of all ranks: a few labels beside many unlabelled images.

    Shapes: (b, c), (b,) -> scalar; 0 for a batch without labels.
    Raises: ShapeError for labels that do not fit; DataError for one of c or more (on a GPU the loss is NaN).
    Example: ``Step(student, prg, task=labelled_cross_entropy)``
    """
    return mean_over_batch(*cross_entropy(logits, target))


class Step(nn.Module):
    """Student, distillers and task of one training step.

    Args:
        student: module from images to Features (a :class:`~graphkd.models.tap.Tap`).
        distillers: methods whose terms are summed; two of one kind need names of their own.
        task: ``(logits, target) -> scalar``, added as ``"task"``; default none, then no label is ever read.
        chunk: most samples whose activations are held at once, >= 1: the batch, and with it every relation, may be
            larger than memory (:func:`graphkd.chunks.forward_in_chunks`). ``None`` (default): all at once.

    Shapes: images (b, 3, h, w) and teacher features of the same b samples -> named scalars.
    Raises: HeadError if no term reaches the student's head, DistributedError under ``nn.DataParallel``.
    Example::

        step = DistributedDataParallel(Step(Tap(model), prg))
        losses = step(images, teacher(images))
        losses.total.backward()
    """

    def __init__(
        self, student: nn.Module, *distillers: Distiller, task: Task | None = None, chunk: int | None = None
    ) -> None:
        super().__init__()
        if not distillers and task is None:
            raise MissingFeatureError(
                "a Step needs a distiller or task=...: there is nothing to train the student with"
            )
        if chunk is not None and chunk < 1:
            raise OptionError(f"chunk is a number of samples >= 1, or None for the whole batch, found {chunk}")
        self.student = student
        self.distillers = nn.ModuleList(distillers)
        self.task = task
        self.chunk = chunk
        self._head_checked = False

    @property
    def _methods(self) -> list[Distiller]:
        methods: Any = self.distillers
        return list(methods)

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        teacher: Features | None = None,
        *,
        target: Int[Tensor, " b"] | None = None,
        index: Int[Tensor, " b"] | None = None,
        boxes: Any = None,
    ) -> Losses:
        """Losses of one batch; ``teacher`` may be left out only where there is a task and no distiller."""
        beside = {"target": target, "index": index, "boxes": boxes}
        seen = self._run_student(images, teacher, beside)
        losses = Losses()
        for distiller in self._methods:
            known = distiller in seen.losses
            terms = seen.losses[distiller] if known else self._compare(distiller, seen.features, teacher, beside)
            losses = losses.joined(terms)
        if self.task is not None:
            if target is None:
                raise MissingFeatureError("the task needs target=...: labels, with -1 where there is none")
            losses = losses.joined({"task": self.task(seen.features.tensor("logits", "the task"), target)})
        self._check_head(seen, losses)
        return losses

    def _run_student(self, images: Tensor, teacher: Features | None, beside: dict[str, Any]) -> chunks.ChunkedForward:
        if self.chunk is not None:
            return chunks.forward_in_chunks(self.student, self._methods, images, teacher, beside, self.chunk)
        features = self.student(images)
        if not isinstance(features, Features):
            raise ArgumentTypeError(
                f"the student gave a {type(features).__name__}, and a Step compares Features: wrap it in Tap(...)"
            )
        return chunks.ChunkedForward(features, features, {})

    def _compare(
        self, distiller: Distiller, features: Features, teacher: Features | None, beside: dict[str, Any]
    ) -> Losses:
        given = chunks.needed(teacher, distiller)
        try:
            losses: Losses = distiller(features, given, **beside)
        except MissingFeatureError as error:
            if self.chunk is not None:
                error.add_note(
                    "chunks drop maps and tokens unless a distiller says that it relates those of several images "
                    "(relates_maps = True) or looks at one image at a time (global_batch = 'per_image')"
                )
            raise
        return losses

    def _check_head(self, seen: chunks.ChunkedForward, losses: Losses) -> None:
        """Once: a head without gradient would be exported untrained, and would stall the gradient sync of DDP."""
        features = seen.first
        if self._head_checked or torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        if features.proxies is not None and not features.proxies.requires_grad:
            return  # a frozen classifier; its outputs still carry the gradient of the embedding
        head = [each for each in (features.logits, features.proxies, features.proxy_logits) if each is not None]
        head = [each for each in head if each.requires_grad]
        if head and losses.total.requires_grad:
            again = [self.student, *seen.losses] if self.chunk is not None else []
            with chunks.preserve_buffers(*again):  # the first chunk may run for this
                grads = torch.autograd.grad(losses.total, head, retain_graph=True, allow_unused=True)
            if all(grad is None for grad in grads):
                raise HeadError(
                    f"no term of {', '.join(losses)} reaches the student's classifier: it would stay untrained and "
                    "stall distributed training. Add a term on the logits (a KD or PRG distiller, or task=...) or "
                    "freeze the head"
                )
        self._head_checked = True

    def _replicate_for_data_parallel(self) -> Any:
        raise DistributedError(
            "nn.DataParallel cuts the batch and with it the graph (64 samples on 8 devices keep 448 of 4,032 pairs): "
            "use DistributedDataParallel(Step(...)) with torchrun or accelerate launch, which gathers the nodes"
        )
