r"""Quality of a backbone without classes: how far it arranges images as its teacher does."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import cosine_similarity, normalize

from graphkd.data.views import Batch
from graphkd.errors import MissingFeatureError, NonFiniteError, ShapeError
from graphkd.features import Features
from graphkd.training.metrics import evaluating
from graphkd.typing import Float, Int, Tensor

NEIGHBOURS = 10
LEAST = 2 * NEIGHBOURS  # images, below which neighbours mean nothing
_MOST = 5000  # images that are compared
_FOLDS = 5
_ALPHAS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)  # of ridge regression


@dataclass(frozen=True)
class EmbeddingQuality:
    r"""A student's embeddings beside its teacher's, of the same n images. Their widths may differ.

    .. math:: \text{agreement} = \frac{1}{nk} \sum_i |N^s_i \cap N^t_i|, \qquad
        \text{cosine} = \frac1n \sum_i \cos(\hat x^t_i - \mu, x^t_i - \mu)

    N_i are the k = 10 images nearest to image i by cosine, :math:`\hat x^t` is the teacher's embedding as a linear map
    of the student's predicts it (ridge regression; five folds, each predicted from the other four), and :math:`\mu` the
    mean of the teacher's in those four: a student that knows no more has cosine 0. By chance the agreement is
    k / (n - 1).

    With labels, both networks are scored: ``knn`` is the share of images whose k neighbours vote for their class,
    ``linear_probe`` the share that ridge regression on the embedding tells right, in the same five folds. These are
    scores on held-out images alone: a probe that is trained on all images does better.

    Args:
        student, teacher: embeddings.
        labels: of the images; ``None``, or -1, for none.

    Shapes: student (n, d), teacher (n, e), labels (n,); of more than 5,000 images, every m-th is compared.
    Raises: ShapeError for other images, and for fewer than 20; NonFiniteError.
    Example: ``EmbeddingQuality(student_embeddings, teacher_embeddings).agreement``
    """

    student: Float[Tensor, "n d"]
    teacher: Float[Tensor, "n e"]
    labels: Int[Tensor, " n"] | None = None

    def __post_init__(self) -> None:
        rows = len(self.student), len(self.teacher)
        if rows[0] != rows[1] or rows[0] < LEAST:
            raise ShapeError(f"expected embeddings of the same {LEAST} images or more, found {rows[0]} and {rows[1]}")
        for side, each in (("student", self.student), ("teacher", self.teacher)):
            if broken := int((~each.isfinite()).any(1).sum()):
                raise NonFiniteError(f"{broken} of {len(each)} embeddings of the {side} are not finite: it is damaged")
        step = -(-rows[0] // _MOST)
        for name in ("student", "teacher", "labels"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else value[::step].cpu())

    @property
    def images(self) -> int:
        """How many are compared."""
        return len(self.student)

    @cached_property
    def neighbours(self) -> tuple[Int[Tensor, "n k"], Int[Tensor, "n k"]]:
        """The nearest images of each image, by the student and by the teacher."""
        return nearest(self.student), nearest(self.teacher)

    @cached_property
    def agreement(self) -> float:
        """Share of the nearest neighbours that both have in common, in [0, 1]."""
        ours, theirs = self.neighbours
        return float((ours[:, :, None] == theirs[:, None, :]).any(2).double().mean())

    @cached_property
    def cosine(self) -> float:
        """Mean cosine of the teacher's embedding and what the student's tells of it linearly, both centred."""
        from sklearn.linear_model import RidgeCV

        model, x, y, found = _linear(RidgeCV(_ALPHAS)), self.student.double().numpy(), self.teacher.double(), []
        for known, asked in _folds().split(x):
            mean, told = y[known].mean(0), torch.from_numpy(model.fit(x[known], y[known].numpy()).predict(x[asked]))
            found.append(cosine_similarity(told - mean, y[asked] - mean))
        return float(torch.cat(found).mean())

    def knn(self, side: int) -> float:
        """Share of labelled images whose neighbours vote for their class; 0 for the student, 1 for the teacher."""
        x, labels = self._labelled(side)
        votes = labels[nearest(x)].mode(1).values
        return float((votes == labels).double().mean())

    def linear_probe(self, side: int) -> float:
        """Share of labelled images that a linear classifier on the embedding tells right; sides as for :meth:`knn`."""
        from sklearn.linear_model import RidgeClassifierCV
        from sklearn.model_selection import cross_val_predict

        x, labels = self._labelled(side)
        model = _linear(RidgeClassifierCV(_ALPHAS))
        told = cross_val_predict(model, x.double().numpy(), labels.numpy(), cv=_folds())
        return float((torch.from_numpy(told) == labels).double().mean())

    def _labelled(self, side: int) -> tuple[Tensor, Tensor]:
        assert self.labels is not None
        known = self.labels >= 0
        return (self.student, self.teacher)[side][known], self.labels[known]

    @property
    def scored(self) -> bool:
        """Whether there are labels to score by: of 20 images or more, and of two classes."""
        known = torch.tensor([]) if self.labels is None else self.labels[self.labels >= 0]
        return len(known) >= LEAST and bool((known != known[0]).any())

    def numbers(self) -> dict[str, float]:
        """The scalars, for a log."""
        found = {"agreement": self.agreement, "cosine": self.cosine}
        if self.scored:
            for side, prefix in enumerate(("", "teacher_")):
                found |= {f"{prefix}knn": self.knn(side), f"{prefix}linear_probe": self.linear_probe(side)}
        return found


def nearest(x: Float[Tensor, "n d"], k: int = NEIGHBOURS) -> Int[Tensor, "n k"]:
    """The k nearest other rows of each row, by cosine, nearest first.

    Example: ``nearest(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), 1)`` is ``[[1], [0], [1]]``
    """
    unit, found = normalize(x.float()), []
    for start in range(0, len(unit), 1024):
        cosines = unit[start : start + 1024] @ unit.T
        cosines[torch.arange(len(cosines)), torch.arange(start, start + len(cosines))] = -torch.inf
        found.append(cosines.topk(k).indices)
    return torch.cat(found)


def _linear(model: Any) -> Any:
    """A linear model of numbers that are brought to one scale first."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), model)


def _folds() -> Any:
    """Each fifth of the rows is asked about once, and the others are known."""
    from sklearn.model_selection import KFold

    return KFold(_FOLDS, shuffle=True, random_state=0)


@torch.no_grad()
def embeddings_of(
    network: Callable[[Batch], Features],
    loader: Iterable[Batch],
    count: int,
    device: torch.device | str = "cpu",
    total: Callable[[Tensor], Any] | None = None,
) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"] | None]:
    """The embeddings of images, by position, and their labels where the batches have some.

    Args:
        network: from a batch to Features.
        loader: batches of all the images.
        count: how many images there are.
        device: where the embeddings are.
        total: sums a tensor over processes, for a loader that is split among them.

    Raises: MissingFeatureError without embeddings, or where an image was not asked about.
    Example: ``embeddings_of(lambda batch: store[batch.index], views.loader(256, shuffle=False), len(views))[0]``
    """
    rows: Tensor | None = None  # embedding, label + 1, how often told
    for batch in loader:
        x = network(batch).tensor("embedding", "a comparison").float()
        rows = torch.zeros(count, x.shape[1] + 2, device=device) if rows is None else rows
        label = torch.zeros(len(x)) if batch.target is None else batch.target + 1
        told = torch.ones(len(x), 1, device=device)
        rows[batch.index.to(device)] = torch.cat([x.to(device), label.to(told)[:, None], told], 1)
    if rows is not None and total is not None:
        rows = total(rows)
    if rows is None or not bool((rows[:, -1] == 1).all()):
        raise MissingFeatureError(f"not each of {count} images was asked about once: ask about all of them")
    labels = rows[:, -2].round().long().cpu() - 1
    return rows[:, :-2].cpu(), labels if bool((labels >= 0).any()) else None


def compare_embeddings(
    model: Callable[[Tensor], Any],
    loader: Iterable[Batch],
    teacher: Float[Tensor, "n e"],
    device: torch.device | str = "cpu",
    total: Callable[[Tensor], Any] | None = None,
) -> EmbeddingQuality:
    """Compare a student with the teacher's embeddings of the same images, by position.

    Args:
        model: a module is asked in eval mode and given back in the mode it had.
        loader, device, total: as for :func:`embeddings_of`.

    Raises: as :func:`embeddings_of` and :class:`EmbeddingQuality`.
    Example: ``compare_embeddings(student, views.loader(256, shuffle=False, drop_last=False), theirs).numbers()``
    """
    with evaluating(model):
        ours, labels = embeddings_of(lambda batch: model(batch.student.to(device)), loader, len(teacher), device, total)
    return EmbeddingQuality(ours, teacher, labels)
