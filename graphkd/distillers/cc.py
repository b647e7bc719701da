"""Correlation congruence: the kernel matrix of the samples follows the teacher's."""

from dataclasses import dataclass, replace
from typing import ClassVar, final

from torch import nn

from graphkd import distributed
from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.parts import same_samples, sample_graph
from graphkd.distillers.terms import EdgeTerm
from graphkd.errors import OptionError
from graphkd.features import Features
from graphkd.functional.samples import taylor_kernel
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

    def __call__(self, x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
        """The kernel of all pairs."""
        return taylor_kernel(cosine(x, y), self.gamma, self.order)


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
        if gamma <= 0 or order < 1:
            raise OptionError(f"gamma must be > 0 and order >= 1, found gamma={gamma} and order={order}")
        if form not in ("kernel", "adjacent"):
            raise unknown("form of CC", form, ["adjacent", "kernel"])
        self.relation = TaylorGaussian(gamma, order)
        self.embed: nn.ModuleDict | None = None
        if embed_dim is not None:
            layers = {"student": nn.Linear(student_dim, embed_dim), "teacher": nn.Linear(teacher_dim, embed_dim)}
            self.embed = nn.ModuleDict(layers)
        kernel = EdgeTerm(("sample", self.relation.__name__, "sample"), "mse")
        self.terms = self.table(congruence=(weight, kernel if form == "kernel" else _adjacent))

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
    student, teacher = same_samples(pair, "embeddings")
    apart = distributed.gather((student - teacher).abs(), list(pair.sizes))  # neighbours cross the ranks
    return (apart[:-1] * apart[1:]).sum() / max(len(apart) - 1, 1)
