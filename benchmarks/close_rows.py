"""Distances of close rows: errors against float64 beside ``torch.cdist``, and the time that close rows cost.

python -m benchmarks.close_rows [--pairs 10000] [--gaps 1e-4 1e-2] [--widths 16 512]    # errors
python -m benchmarks.close_rows --times
TRITON_INTERPRET=1 python -m benchmarks.close_rows --pairs 100    # the kernels too, on a CPU

Each graph has 100 rows of length 1 and, for each, another one a gap away; with an offset, 10 is added to every number.
Errors are the largest of all pairs, relative to the distance, or to the length of its gradient; float64 sees the same
rounded rows. Exit code 1: an error is larger than max(2 x that of ``cdist`` without products, 1e-4).
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import product

import torch
from graphkd_kernels import available
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.timing import Timing, plan, sample
from graphkd import ops
from graphkd.graphs.relations import euclidean

PAIRS = 100  # in one graph
LIMIT = 1e-4
Errors = tuple[float, float]  # of the values, of the gradients
Distances = Callable[[Tensor], Tensor]


def rows(width: int, gap: float, offset: float, seed: int) -> Tensor:
    """One graph's rows: row i and row i + 100 are a gap apart."""
    draw = torch.Generator().manual_seed(seed)
    first, apart = (normalize(torch.randn(PAIRS, width, generator=draw, dtype=torch.float64)) for _ in range(2))
    return (torch.cat([first, first + gap * apart]) + offset).float()


def of_pairs(distances: Distances) -> Distances:
    """The distances of the close pairs, from the matrix of all."""
    return lambda x: distances(x).diagonal(PAIRS)


def neighbours(x: Tensor) -> Tensor:
    """The same from the squared distances to the nearest other row."""
    return ops.knn(x, 1)[1][:PAIRS, 0].sqrt()


def through_loss(x: Tensor) -> Tensor:
    """A sum of edges whose gradient is that of the distances: the Huber penalty's slope is 1 in each of them."""
    mine, theirs = x[:PAIRS].unsqueeze(1), torch.stack([x[PAIRS:], x[:PAIRS].roll(1, 0)], 1)
    far = mine.new_tensor([[[0.0]], [[9.0]]])  # the teacher's nodes, 9 apart
    teacher = far[:1].expand(PAIRS, 1, 1), far[1:].expand(PAIRS, 2, 1)
    return -ops.edge_sum(mine, theirs, *teacher, "euclidean", "huber")


def cdist(mode: str) -> Distances:
    """PyTorch's own."""
    return lambda x: torch.cdist(x, x, compute_mode=f"{mode}_mm_for_euclid_dist")


FORMS: dict[str, tuple[str, Distances]] = {
    "euclidean": ("eager", of_pairs(lambda x: euclidean(x, x))),
    "knn, eager": ("eager", neighbours),
    "knn, blocked": ("blocked", neighbours),
    "edge_sum, eager": ("eager", through_loss),
    "edge_sum, blocked": ("blocked", through_loss),
    "cdist, products": ("eager", of_pairs(cdist("use"))),
    "cdist": ("eager", of_pairs(cdist("donot_use"))),
}

if "triton" in available():
    FORMS["euclidean, triton"] = "triton", of_pairs(lambda x: ops.similarity(x, None, "euclidean"))
    FORMS["edge_sum, triton"] = "triton", through_loss


def errors(backend: str, distances: Distances, x: Tensor) -> Errors:
    """Largest relative errors over the pairs of one graph."""
    given, exact = x.clone().requires_grad_(), x.double()
    with ops.backend(backend):
        found = distances(given)
        (gradient,) = torch.autograd.grad(found.sum(), given)
    apart = exact[:PAIRS] - exact[PAIRS:]
    true = apart.norm(dim=1)
    value = 0.0 if found.ndim == 0 else float(((found.detach() - true) / true).abs().max())
    return value, float((gradient[PAIRS:] + apart / true[:, None]).norm(dim=1).max())


def cell(form: str, width: int, gap: float, offset: float, pairs: int) -> Errors:
    """Largest relative errors over all graphs."""
    found = [errors(*FORMS[form], rows(width, gap, offset, seed)) for seed in range(max(1, pairs // PAIRS))]
    return max(value for value, _ in found), max(gradient for _, gradient in found)


def fails(found: dict[str, Errors]) -> list[str]:
    """Forms of ours with an error above the limit."""
    limits = [max(2 * each, LIMIT) for each in found["cdist"]]
    ours = [form for form in found if not form.startswith("cdist")]
    return [form for form in ours if any(e > limit for e, limit in zip(found[form], limits, strict=True))]


def print_errors(widths: Sequence[int], gaps: Sequence[float], pairs: int) -> bool:
    """A line for each cell: value and gradient of each form. Whether all are within the limit."""
    print("| D | gap | offset |" + "".join(f" {form} |" for form in FORMS))
    print("| --: | --: | --: |" + " --: |" * len(FORMS))
    right = True
    for width, gap, offset in product(widths, gaps, (0.0, 10.0)):
        found = {form: cell(form, width, gap, offset, pairs) for form in FORMS}
        numbers = "".join(f" {value:.0e}, {gradient:.0e} |".replace("0e+00", "-") for value, gradient in found.values())
        print(f"| {width} | {gap:g} | {offset:g} |{numbers}", *fails(found), flush=True)
        right &= not fails(found)
    return right


def print_times(n: int = 2048, width: int = 512) -> None:
    """Milliseconds of value and gradient: no rows close; pairs of equal rows; half of all pairs close."""
    far = torch.randn(n, width, generator=torch.Generator().manual_seed(0))
    equal = torch.cat([far[: n // 2]] * 2)
    centres = far[:2].repeat_interleave(n // 2, 0)
    cases = {"none close": far, "each row twice": equal, "two tight clusters": centres + 1e-3 * far}
    calls: dict[str, tuple[str, Distances]] = {
        "euclidean": ("eager", lambda x: euclidean(x, x)),
        "rkd_distance": ("blocked", lambda x: ops.rkd_distance(x, far)),
        "knn": ("blocked", lambda x: ops.knn(x, 8)[1]),
    }
    print(f"| {n} x {width}, ms |" + "".join(f" {name} |" for name in cases))
    print("| --- |" + " --: |" * len(cases))
    for name, (backend, call) in calls.items():
        times = "".join(f" {_milliseconds(backend, call, x):.0f} |" for x in cases.values())
        print(f"| `{name}`, {backend} |{times}", flush=True)


def _milliseconds(backend: str, call: Distances, x: Tensor) -> float:
    leaf = x.clone().requires_grad_()

    def run() -> None:
        with ops.backend(backend):
            torch.autograd.grad(call(leaf).sum(), leaf)

    repeats, samples = plan(run, 2.0)
    return Timing.of([sample(run, repeats) for _ in range(samples)]).ms


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 0 if every error is within the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000, help="in each cell")
    parser.add_argument("--gaps", type=float, nargs="+", default=[1e-4, 1e-3, 1e-2, 1e-1], help="of the rows' length")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 128, 512, 2048], help="D")
    parser.add_argument("--times", action="store_true", help="print times instead")
    options = parser.parse_args(arguments)
    if options.times:
        print_times()
        return 0
    return 0 if print_errors(options.widths, options.gaps, options.pairs) else 1


if __name__ == "__main__":
    sys.exit(main())
