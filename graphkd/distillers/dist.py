"""DIST: the student's class probabilities correlate with the teacher's, by sample and by class."""

from typing import ClassVar, final

from graphkd import ops
from graphkd.checks import same_logits, tensor_loss
from graphkd.distillers.base import DISTILLERS, Distiller, Pair, mean_over_batch
from graphkd.distillers.parts import logits, sample_graph, samples
from graphkd.distributed import grams
from graphkd.features import Features
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor

_EPS = 1e-8  # of the published loss, added to the product of both lengths


@tensor_loss
def dist(
    student_logits: Float[Tensor, "b c"],
    teacher_logits: Float[Tensor, "b c"],
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    r"""DIST: correlation of predictions within each sample and within each class.

    .. math:: L = \beta\, L_{inter} + \gamma\, L_{intra}

    Paper: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, eq. 10;
    hunto/image_classification_sota@6f7a70a.
    Args:
        student_logits, teacher_logits: over the same classes.
        beta, gamma: weights of :func:`dist_inter` and :func:`dist_intra`; defaults 1 and 1.
        temperature: tau > 0; default 1 (CIFAR: 4).
    Shapes: (b, c) twice -> scalar.
    Raises: ShapeError for other classes or samples, OptionError for a temperature <= 0.
    Example: ``dist(logits, logits)`` is 0 up to the eps, for logits of several samples.
    Differs from the official code: rows or columns that are constant up to rounding count as uncorrelated and get no
    gradient. One sample has constant columns: its intra part is 1, as in the official code.
    """
    same_logits(student_logits, teacher_logits)
    inter, intra = ops.dist_sums(student_logits, teacher_logits, temperature, _EPS).unbind()
    each_sample, each_class = (temperature**2 / count for count in student_logits.shape)
    return beta * each_sample * inter + gamma * each_class * intra


@tensor_loss
def dist_inter(
    student_logits: Float[Tensor, "b c"], teacher_logits: Float[Tensor, "b c"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    r"""DIST's inter-class part: correlation over the classes of each sample.

    .. math:: L = \tau^2 \, \mathrm{mean}_i \, (1 - r(Y^S_{i,:}, Y^T_{i,:})), \qquad Y = \mathrm{softmax}(z / \tau)

    Args, Shapes, Raises: as of :func:`dist`.
    Example: ``dist_inter(logits, logits)`` is 0 up to the eps.
    """
    return temperature**2 * _inter(*_probabilities(student_logits, teacher_logits, temperature))


@tensor_loss
def dist_intra(
    student_logits: Float[Tensor, "b c"], teacher_logits: Float[Tensor, "b c"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    r"""DIST's intra-class part: correlation over the samples of each class.

    .. math:: L = \tau^2 \, \mathrm{mean}_c \, (1 - r(Y^S_{:,c}, Y^T_{:,c})), \qquad Y = \mathrm{softmax}(z / \tau)

    Args, Shapes, Raises: as of :func:`dist`.
    Example: ``dist_intra(logits, logits)`` is 0 up to the eps, for logits of several samples.
    """
    student, teacher = _probabilities(student_logits, teacher_logits, temperature)
    return temperature**2 * _intra(student, teacher, len(student))


def _probabilities(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    same_logits(student, teacher)
    ops.positive_temperature(temperature)
    return _softened(student, temperature), _softened(teacher, temperature)


def _softened(logits: Float[Tensor, "b c"], temperature: float) -> Float[Tensor, "b c"]:
    scaled = logits if temperature == 1 else logits / temperature  # a pass over both matrices is a tenth of the loss
    return scaled.softmax(-1)


def _inter(student: Float[Tensor, "b c"], teacher: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    same_logits(student, teacher)
    return mean_over_batch(1 - ops.damped_row_pearson(student, teacher, _EPS))


def _intra(student: Float[Tensor, "b c"], teacher: Float[Tensor, "b c"], rows: int) -> Float[Tensor, ""]:
    same_logits(student, teacher)
    return (1 - grams.damped_column_pearson(student, teacher, _EPS, rows)).mean()


@final
@DISTILLERS.register("dist")
class DISTDistiller(Distiller):
    r"""Correlate the class probabilities of each sample, and of each class over the batch.

    .. math::
        L = \tau^2 \Big[\beta \big(1 - \mathrm{mean}_i\, r(Y^S_{i\cdot}, Y^T_{i\cdot})\big)
          + \gamma \big(1 - \mathrm{mean}_c\, r(Y^S_{\cdot c}, Y^T_{\cdot c})\big)\Big], \quad
        Y = \mathrm{softmax}(z / \tau)

    Paper: Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022.
    Args:
        beta: weight between the classes of a sample; default 1.
        gamma: weight between the samples of a class; default 1.
        temperature: tau, softmax temperature, > 0; default 1.
    Shapes: logits (b, c) on both sides.
    Raises: OptionError for a temperature <= 0, ShapeError for different numbers of classes.
    Example: ``DISTDistiller(temperature=4.0)(student(images), teacher(images)).total``
    Differs from the official code (hunto/image_classification_sota@6f7a70a): the columns run over the samples of all
    ranks. The factor tau^2 is in the code, not in the paper; 1e-8 beside the lengths is the code's.
    """

    zero_at_teacher: ClassVar[frozenset[str]] = frozenset()  # 1e-8 beside the lengths leaves a rest

    def __init__(self, *, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature, square = ops.positive_temperature(temperature), temperature**2
        self.together = beta > 0 and gamma > 0
        self.terms = self.weighted_terms(inter=(beta * square, self._inter), intra=(gamma * square, self._intra))

    def build(self, features: Features, side: Side) -> Graph:
        """Samples by their class probabilities."""
        graph = sample_graph(features, "logits", "DIST")
        return graph.add("sample", _softened(graph["sample"].x, self.temperature))

    def _inter(self, pair: Pair) -> Float[Tensor, ""]:
        return pair.once(self, self._parts)[0] if self.together else _inter(*samples(pair))

    def _intra(self, pair: Pair) -> Float[Tensor, ""]:
        return pair.once(self, self._parts)[1] if self.together else _intra(*samples(pair), sum(pair.sizes))

    def _parts(self, pair: Pair) -> tuple[Tensor, Tensor]:
        if len(pair.sizes) > 1:  # columns run over all ranks
            return _inter(*samples(pair)), _intra(*samples(pair), sum(pair.sizes))
        student, teacher = logits(pair, "DIST")
        same_logits(student, teacher)
        inter, intra = ops.dist_sums(student, teacher, self.temperature, _EPS).unbind()
        return inter / len(student), intra / student.shape[-1]
