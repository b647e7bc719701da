"""The truth: every operation written the obvious way, in plain differentiable PyTorch, for any dtype and device.

Tests compare with this file, benchmarks divide by it, the ``eager`` backend runs it; there is no second copy.
Rows are nodes. Degenerate rows and roots of zero are masked (value 0, gradient 0); a NaN that comes in goes out.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def safe_sqrt(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Square root whose value and gradient at 0 are 0. No eps is added, so exact zeros stay exact."""
    zero = x <= 0  # a NaN is not <= 0 and passes
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x).sqrt())


def _length(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n 1"]:
    # Not Tensor.norm: in float32 on the CPU it loses up to 7e-4 on long rows, a sum of squares does not.
    return x.square().sum(-1, keepdim=True).sqrt()


def _scale_rows(x: Float[Tensor, "*b n d"], dead: Float[Tensor, "*b n 1"]) -> Float[Tensor, "*b n d"]:
    """Rows to unit length, dead ones to 0 with gradient 0."""
    alive = torch.where(dead, 1.0, x)
    return torch.where(dead, 0.0, alive / _length(alive))


def unit_rows(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """x / |x| for each row; a zero row stays zero and gets no gradient."""
    return _scale_rows(x, _length(x.detach()) == 0)


def center_normalize(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """(x - mean) / |x - mean| for each row; a row that is constant up to rounding, relative to itself, becomes 0."""
    centered = x - x.mean(dim=-1, keepdim=True)
    dead = _length(centered.detach()) <= 4 * torch.finfo(x.dtype).eps * _length(x.detach())
    return _scale_rows(centered, dead)


def gram(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """Inner products of the rows of x with those of y."""
    return x @ y.mT


def squared_distances(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """|x_i - y_j|^2 from a Gram matrix; what is within its rounding is 0, without gradient, so equal rows are at 0.

    Rows are centred first: distances do not change, and the cancellation of large offsets disappears.
    """
    shift = y.mean(dim=-2, keepdim=True).detach()
    if x is y:  # sizes from the same product as the rest
        x = y = x - shift
        products = x @ x.mT
        sizes_x = sizes_y = products.diagonal(dim1=-2, dim2=-1)
    else:
        x, y = x - shift, y - shift
        products = x @ y.mT
        sizes_x, sizes_y = x.square().sum(-1), y.square().sum(-1)
    sizes = sizes_x.unsqueeze(-1) + sizes_y.unsqueeze(-2)
    squares = sizes - 2 * products
    rounding = squares <= 16 * torch.finfo(squares.dtype).eps * sizes  # a NaN is not, and passes
    return torch.where(rounding, 0.0, squares)


def row_kl(
    student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], temperature: float = 1.0
) -> Float[Tensor, "*b n"]:
    """KL(softmax(teacher / T) || softmax(student / T)) of each row."""
    log_s = (student / temperature).log_softmax(-1)
    log_t = (teacher / temperature).log_softmax(-1)
    return (log_t.exp() * (log_t - log_s)).sum(-1)


def row_pearson(student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"]) -> Float[Tensor, "*b n"]:
    """Correlation of each row of one matrix with the same row of the other."""
    return (center_normalize(student) * center_normalize(teacher)).sum(-1)


def knn(x: Float[Tensor, "n d"], k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k) of each row's k nearest other rows, nearest first."""
    distances = squared_distances(x, x).fill_diagonal_(float("inf"))
    values, indices = distances.topk(k, dim=-1, largest=False)
    return indices, values


def unit_gram(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n n"]:
    """Inner products of the rows with each other, each row of the result scaled to unit length (SP, ICKD)."""
    return unit_rows(x @ x.mT)


def pair_squares(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """|x_i - x_j|^2, at least 1e-12 off the diagonal (as RKD and IRG have it; no gradient there) and 0 on it."""
    diagonal = torch.eye(len(x), dtype=torch.bool, device=x.device)
    return torch.where(diagonal, 0.0, squared_distances(x, x).clamp_min(1e-12))


def rkd_distances(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """|x_i - x_j| divided by the mean of the positive ones; a single row has distance 0."""
    distances = safe_sqrt(pair_squares(x))
    pairs = max(len(x) * (len(x) - 1), 1)  # off the diagonal all are positive: at least 1e-6
    mean = distances.sum() / pairs
    return distances / torch.where(mean == 0, 1.0, mean)


def rkd_distance(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"]) -> Float[Tensor, ""]:
    """Mean smooth-L1 difference of all n^2 distances, each side divided by its mean distance."""
    return torch.nn.functional.smooth_l1_loss(rkd_distances(student), rkd_distances(teacher))


def rkd_angles(x: Float[Tensor, "n d"], first: int, last: int) -> Float[Tensor, "m n n"]:
    """cos of the angle at node i between nodes j and k, for i in [first, last); 0 where two nodes coincide.

    From the Gram matrix: <x_j - x_i, x_k - x_i> = g_jk - g_ij - g_ik + g_ii, without the feature dimension.
    """
    x = x - x.mean(dim=0, keepdim=True).detach()
    products = x @ x.mT
    sizes, own = products.diagonal(), products[first:last]
    squares = sizes[first:last, None] + sizes - 2 * own
    rounding = 4 * torch.finfo(x.dtype).eps * (sizes[first:last, None] + sizes)
    coincide = squares.detach() <= rounding.detach()
    inverse = torch.where(coincide, 0.0, torch.where(coincide, 1.0, squares).rsqrt())
    spans = products - own[:, :, None] - own[:, None, :] + sizes[first:last, None, None]
    return spans * inverse[:, :, None] * inverse[:, None, :]


def rkd_angle(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"], first: int, last: int) -> Float[Tensor, ""]:
    """Sum of the smooth-L1 differences of all angles at the nodes in [first, last)."""
    angles = rkd_angles(student, first, last), rkd_angles(teacher, first, last)
    return torch.nn.functional.smooth_l1_loss(*angles, reduction="sum")


def damped_row_pearson(
    student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], eps: float
) -> Float[Tensor, "*b n"]:
    """Correlation of corresponding rows with eps added to the denominator (DIST); 0 where a row is constant."""
    x, y = (each - each.mean(dim=-1, keepdim=True) for each in (student, teacher))
    tiny = 4 * torch.finfo(x.dtype).eps
    dead = _length(x.detach()) <= tiny * _length(student.detach())
    dead = dead | (_length(y.detach()) <= tiny * _length(teacher.detach()))
    x, y = torch.where(dead, 1.0, x), torch.where(dead, 1.0, y)
    cosines = (x * y).sum(-1, keepdim=True) / (_length(x) * _length(y) + eps)
    return torch.where(dead, 0.0, cosines).squeeze(-1)
