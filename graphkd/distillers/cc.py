"""Correlation congruence: the kernel matrix of the samples follows the teacher's."""

from dataclasses import dataclass, replace
from math import exp, factorial
from typing import ClassVar, final

from torch import nn

from graphkd import distributed
from graphkd.checks import same_embeddings, same_samples, tensor_loss
from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.parts import align_within, sample_graph, samples
from graphkd.distillers.terms import EdgeTerm
from graphkd.errors import OptionError
from graphkd.features import Features
from graphkd.graphs.alignments import MSE
from graphkd.graphs.graph import Graph
from graphkd.graphs.relations import cosine
from graphkd.registry import unknown
from graphkd.typing import Float, Side, Tensor


@dataclass(frozen=True)
class TaylorGaussian:
    r"""Taylor series of a Gaussian kernel of unit rows, :math:`e^{-2\gamma} \sum_{p \le P} (2\gamma)^p c_{ij}^p / p!`.

    Args:
        gamma: inverse squared width, > 0.
        order: P, highest power, >= 1.
    """

    gamma: float
    order: int
    __name__ = "taylor_gaussian"
    pairwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.gamma <= 0 or self.order < 1:
            raise OptionError(f"the kernel needs gamma > 0 and order >= 1, found {self.gamma} and {self.order}")

    def __call__(self, x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
        """The kernel of all pairs."""
        cosines = cosine(x, y)
        *lower, last = [exp(-2 * self.gamma) * (2 * self.gamma) ** p / factorial(p) for p in range(self.order + 1)]
        kernel = last * cosines
        for coefficient in reversed(lower[1:]):  # Horner's rule
            kernel = (kernel + coefficient) * cosines
        return kernel + lower[0]


@tensor_loss
def correlation_congruence(
    student: Float[Tensor, "b d"], teacher: Float[Tensor, "b e"], gamma: float = 0.4, order: int = 2
) -> Float[Tensor, ""]:
    r"""Correlation congruence, as in the paper: Gaussian kernel matrices, by their Taylor series.

    .. math:: L = \mathrm{mean}_{ij} (K^S_{ij} - K^T_{ij})^2, \qquad
              K = e^{-2\gamma} \sum_{p=0}^{P} \frac{(2\gamma)^p}{p!} \cos(f_i, f_j)^p

    Paper: Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019, eqs. 6-10;
    AberHu/Knowledge-Distillation-Zoo@65470c8.
    Args:
        student, teacher: embeddings; the widths may differ.
        gamma: inverse squared width of the kernel, > 0; default 0.4.
        order: last power P of the series, >= 1; default 2.
    Shapes: (b, d), (b, e) -> scalar.
    Raises: ShapeError for other samples, OptionError for gamma <= 0 or order < 1.
    Example: ``correlation_congruence(2 * x, x)`` is 0.
    """
    same_samples(student, teacher, 2)
    return align_within(student, teacher, TaylorGaussian(gamma, order), MSE)


@tensor_loss
def correlation_congruence_adjacent(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    r"""Correlation congruence as RepDistiller codes it: it depends on the order of the batch, and is not the paper's.

    .. math:: L = \mathrm{mean}_{i < N} \sum_k \delta_{ik} \delta_{i+1,k}, \qquad \delta = |f^S - f^T|

    Source: HobbitLong/RepDistiller@b84f547.
    Args:
        student, teacher: embeddings in one space (there of width 128).
    Shapes: (b, d) twice -> scalar.
    Raises: ShapeError for other samples or widths.
    Example: ``correlation_congruence_adjacent(x, x)`` is 0.
    Differs from the official code: one sample gives 0 (there NaN), and the teacher gets no gradient. RepDistiller
    trains a linear layer on each side by this loss, the teacher's too, as ``CCDistiller(form="adjacent",
    embed_dim=128)`` does.
    """
    return _neighbours(student, teacher, [len(student)])


def _neighbours(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b d"], sizes: list[int]) -> Float[Tensor, ""]:
    same_embeddings(student, teacher)
    apart = distributed.gather((student - teacher).abs(), sizes)  # neighbours cross the ranks
    return (apart[:-1] * apart[1:]).sum() / max(len(apart) - 1, 1)


@final
@DISTILLERS.register("cc")
class CCDistiller(Distiller):
    r"""Match the kernels of all pairs of samples.

    .. math:: L = w\, \mathrm{mean}_{ij} (K^S_{ij} - K^T_{ij})^2, \quad
        K_{ij} = e^{-2\gamma} \sum_{p=0}^{P} \frac{(2\gamma)^p}{p!} \langle \hat f_i, \hat f_j \rangle^p

    The form ``"adjacent"`` is that of a widely used re-implementation, on neighbours in the batch:
    :math:`L = w\, \mathrm{mean}_{i<N} \sum_k \delta_{ik} \delta_{i+1,k}`, :math:`\delta = |f^S - f^T|`. It changes when
    the batch is shuffled, and is no kernel.

    Paper: Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019.
    Args:
        student_dim, teacher_dim: widths of the two embeddings.
        weight: default 0.02.
        form: ``"kernel"`` (default) or ``"adjacent"``.
        gamma: inverse squared width of the kernel, > 0; default 0.4.
        order: P, highest power of the series, >= 1; default 2.
        embed_dim: width of a linear layer on each side, both trained by this loss (the official 128), or ``None``
            (default): the embeddings as they are.
    Shapes: embedding (b, student_dim) and (b, teacher_dim).
    Raises: UnknownNameError, OptionError; ShapeError for ``"adjacent"`` between different widths.
    Example: ``CCDistiller.between(student, teacher)(student(images), teacher(images)).total``
    Differs from the official code (kernel: AberHu/Knowledge-Distillation-Zoo@65470c8; adjacent:
    HobbitLong/RepDistiller@b84f547): no layers by default, as a trained layer on the teacher may collapse.
    """

    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"congruence"})
    sized_by: ClassVar[tuple[str, ...]] = ("student_dim", "teacher_dim")

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        *,
        weight: float = 0.02,
        form: str = "kernel",
        gamma: float = 0.4,
        order: int = 2,
        embed_dim: int | None = None,
    ) -> None:
        super().__init__()
        if form not in ("kernel", "adjacent"):
            raise unknown("form of CC", form, ["adjacent", "kernel"])
        self.relation = TaylorGaussian(gamma, order)
        self.embed: nn.ModuleDict | None = None
        if embed_dim is not None:
            layers = {"student": nn.Linear(student_dim, embed_dim), "teacher": nn.Linear(teacher_dim, embed_dim)}
            self.embed = nn.ModuleDict(layers)
        kernel = EdgeTerm(("sample", self.relation.__name__, "sample"), "mse")
        self.terms = self.weighted_terms(congruence=(weight, kernel if form == "kernel" else _adjacent))

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with embedded samples; here, and not in ``build``, the teacher's layer gets its gradient."""
        if self.embed is None:
            return student, teacher
        s, t = (each.blended() for each in (student, teacher))
        s = replace(s, embedding=self.embed["student"](s.tensor("embedding", "CC")))
        return s, replace(t, embedding=self.embed["teacher"](t.tensor("embedding", "CC")))

    def build(self, features: Features, side: Side) -> Graph:
        """Samples and their kernel."""
        return sample_graph(features, "embedding", "CC").connect("sample", self.relation, "sample")


def _adjacent(pair: Pair) -> Float[Tensor, ""]:
    return _neighbours(*samples(pair), list(pair.sizes))
