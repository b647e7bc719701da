"""Losses of feature maps: ICKD, FSP, NST, attention transfer, FitNet."""

from collections.abc import Sequence
from itertools import pairwise

from torch.nn.functional import mse_loss

from graphkd import ops
from graphkd.errors import ShapeError
from graphkd.functional._precision import graph_loss
from graphkd.functional._shapes import same_maps, same_samples, same_shape
from graphkd.graphs.alignments import MSE
from graphkd.graphs.channels import to_smaller
from graphkd.typing import Float, Tensor


@graph_loss
def ickd(student_maps: Float[Tensor, "b c h w"], teacher_maps: Float[Tensor, "b c h2 w2"]) -> Float[Tensor, ""]:
    r"""Inter-channel correlation: Gram matrices of an image's channels, rows of unit length.

    .. math:: L = \frac{1}{BC} \sum_b \lVert \hat G^S_b - \hat G^T_b \rVert_F^2, \qquad G = F F^\top \in R^{C \times C}

    Paper: Liu et al., "Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation", ICCV 2021;
    ADLab-AutoDrive/ICKD@04e1d3e.
    Args:
        student_maps, teacher_maps: of equal channels; the larger is pooled to the smaller.
    Shapes: (b, c, h, w), (b, c, h2, w2) -> scalar.
    Raises: ShapeError for other samples or channels.
    Example: ``ickd(2 * maps, maps)`` is 0.
    Differs from the official code: its 1x1 convolution on the student is the caller's; maps of other sizes are pooled.
    """
    student, teacher = (maps.flatten(2) for maps in same_maps(student_maps, teacher_maps, channels=True))
    return ops.unit_edge_sum(student, None, teacher, None) / (len(student) * student.shape[1])


@graph_loss
def fsp(
    student_maps: Sequence[Float[Tensor, "b c h w"]], teacher_maps: Sequence[Float[Tensor, "b c h w"]]
) -> Float[Tensor, ""]:
    r"""Flow of solution procedure: Gram matrices between consecutive maps.

    .. math:: L = \sum_l \mathrm{MSE}(G^S_l, G^T_l), \qquad G_{ji} = \mathrm{mean}_p F^{l}_{ip} F^{l+1}_{jp}

    Paper: Yim et al., "A Gift from Knowledge Distillation", CVPR 2017, eqs. 1-2; HobbitLong/RepDistiller@b84f547, which
    uses it before training proper.
    Args:
        student_maps, teacher_maps: two or more maps in the order of depth; of two that follow each other the larger is
            pooled to the smaller.
    Shapes: each (b, c, h, w), channels of a pair equal on both sides -> scalar.
    Raises: ShapeError for other samples, channels or numbers of maps, or fewer than two.
    Example: ``fsp([first, second], [first, second])`` is 0.

    The loss is a fourth power of the features, its gradient a third: features of some 1000 overflow float16 gradients.
    """
    if len(student_maps) != len(teacher_maps) or len(student_maps) < 2:
        raise ShapeError(
            f"FSP compares two or more consecutive maps, found {len(student_maps)} of the student and "
            f"{len(teacher_maps)} of the teacher: give both networks' maps of the same depths"
        )
    for student, teacher in zip(student_maps, teacher_maps, strict=True):
        same_maps(student, teacher, channels=True)
    losses = [
        MSE.local(_flow(*student), _flow(*teacher))
        for student, teacher in zip(pairwise(student_maps), pairwise(teacher_maps), strict=True)
    ]
    return sum(losses[1:], losses[0])


def _flow(first: Float[Tensor, "b c h w"], second: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k c"]:
    first, second = (maps.flatten(2) for maps in to_smaller(first, second))
    return ops.gram(second, first) / first.shape[-1]


@graph_loss
def nst(student_maps: Float[Tensor, "b c h w"], teacher_maps: Float[Tensor, "b k h2 w2"]) -> Float[Tensor, ""]:
    r"""Neuron selectivity transfer: maximum mean discrepancy of the channels' activation patterns.

    .. math:: L = \overline{k(T, T)} + \overline{k(S, S)} - 2\, \overline{k(S, T)}, \qquad k(a, b) = \cos(a, b)^2

    Paper: Huang, Wang, "Like What You Like", arXiv 1707.01219, eq. 10 (polynomial kernel);
    HobbitLong/RepDistiller@b84f547.
    Args:
        student_maps, teacher_maps: any channels; the larger is pooled to the smaller.
    Shapes: (b, c, h, w), (b, k, h2, w2) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``nst(maps, maps.flip(1))`` is 0: the order of channels does not matter.
    """
    student, teacher = (ops.unit_rows(maps.flatten(2)) for maps in same_maps(student_maps, teacher_maps))
    pairs = ((teacher, teacher, 1), (student, student, 1), (student, teacher, -2))
    kernels = [sign * ops.gram(x, y).square().mean() for x, y, sign in pairs]
    return sum(kernels[1:], kernels[0])


@graph_loss
def attention_transfer(
    student_maps: Float[Tensor, "b c h w"], teacher_maps: Float[Tensor, "b k h2 w2"]
) -> Float[Tensor, ""]:
    r"""Attention transfer: where the energy of a map lies.

    .. math:: L = \mathrm{mean}_{bp} (Q^S_{bp} - Q^T_{bp})^2, \qquad Q_b = \mathrm{unit}(\mathrm{mean}_c F_{bc}^2)

    Paper: Zagoruyko, Komodakis, "Paying More Attention to Attention", ICLR 2017, eq. 2;
    HobbitLong/RepDistiller@b84f547, p = 2.
    Args:
        student_maps, teacher_maps: any channels; the larger is pooled to the smaller.
    Shapes: (b, c, h, w), (b, k, h2, w2) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``attention_transfer(2 * maps, maps)`` is 0.
    """
    student, teacher = same_maps(student_maps, teacher_maps)
    return MSE.local(_attention(student), _attention(teacher))


def _attention(maps: Tensor) -> Float[Tensor, "b p"]:
    return ops.unit_rows(maps.square().mean(1).flatten(1))


@graph_loss
def fitnet(student_maps: Float[Tensor, "b *any"], teacher_maps: Float[Tensor, "b *any"]) -> Float[Tensor, ""]:
    r"""FitNet's hint: the mean squared difference of two features of any one shape.

    .. math:: L = \mathrm{mean}\, (F^S - F^T)^2

    Paper: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, eq. 3; HobbitLong/RepDistiller@b84f547.
    Shapes: (b, ...) twice -> scalar.
    Raises: ShapeError for other shapes.
    Example: ``fitnet(torch.zeros(1, 2), torch.ones(1, 2))`` is 1.
    Differs from the official code: its convolution on the student is the caller's.
    """
    same_samples(student_maps, teacher_maps)
    same_shape(student_maps, teacher_maps, "features", "adapt the student by a convolution or a linear layer")
    return mse_loss(student_maps, teacher_maps)
