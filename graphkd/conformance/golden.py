"""The golden format: values of the original implementations, the recipe of their inputs, and our counterparts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from graphkd import functional as F  # noqa: N812
from graphkd.distillers.factory import create_distiller
from graphkd.errors import DataError
from graphkd.features import Features
from graphkd.losses import Losses
from graphkd.text import read_json
from graphkd.typing import Float, Int, Tensor


@dataclass(frozen=True)
class Inputs:
    """What a case's recipe draws, in its order; embeddings serve as logits and, seen as (n, c, d / c, 1), as maps."""

    teacher: Float[Tensor, "n d"]
    student: Float[Tensor, "n d"]
    target: Int[Tensor, " n"]
    teacher_texts: Float[Tensor, "n d"]
    student_texts: Float[Tensor, "n d"]
    channels: int

    @property
    def maps(self) -> tuple[Tensor, Tensor]:
        """Student's and teacher's maps."""
        n, d = self.student.shape
        shape = n, self.channels, d // self.channels, 1
        return self.student.view(shape), self.teacher.view(shape)

    @property
    def layers(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Student's and teacher's maps of two depths: 4 channels, then 8 of half the height and width."""
        n, d = self.student.shape
        side = isqrt(d // 4)

        def maps(x: Tensor) -> tuple[Tensor, Tensor]:
            return x.view(n, 4, side, side), x.flip(1)[:, : d // 2].reshape(n, 8, side // 2, side // 2)

        return maps(self.student), maps(self.teacher)

    def cast(self, dtype: torch.dtype) -> "Inputs":
        """The same in another precision, the student a leaf with gradient."""
        parts = (self.teacher, self.student, self.teacher_texts, self.student_texts)
        teacher, student, teacher_texts, student_texts = (part.to(dtype) for part in parts)
        student = student.detach().clone().requires_grad_()
        return Inputs(teacher, student, self.target, teacher_texts, student_texts, self.channels)


Loss = Callable[[Inputs], Tensor]


def on(function: Callable[..., Tensor], **options: float) -> Loss:
    """A loss of embeddings or logits."""
    return lambda x: function(x.student, x.teacher, **options)


def on_maps(function: Callable[..., Tensor]) -> Loss:
    """A loss of maps."""
    return lambda x: function(*x.maps)


def on_layers(function: Callable[..., Tensor]) -> Loss:
    """A loss of two maps of each network."""
    return lambda x: function(*x.layers)


def on_positive(function: Callable[..., Tensor], **options: int) -> Loss:
    """A loss of features as after a ReLU."""
    return lambda x: function(x.student.abs(), x.teacher.abs(), **options)


def on_labels(function: Callable[..., Tensor], **options: float) -> Loss:
    """A loss of logits and labels."""
    return lambda x: function(x.student, x.teacher, x.target, **options)


def rkd(distance: float, angle: float) -> Loss:
    """RKD's two terms with their weights."""
    return lambda x: distance * F.rkd_distance(x.student, x.teacher) + angle * F.rkd_angle(x.student, x.teacher)


def _kd_and_labels(x: Inputs) -> Tensor:
    return 0.5 * cross_entropy(x.student, x.target) + 0.5 * F.kd(x.student, x.teacher)


def _irg(x: Inputs) -> Tensor:
    return F.irg(x.student, x.teacher, *x.layers, x.student, x.teacher)


def _clip(x: Inputs) -> Tensor:
    return F.clip_distillation(x.student, x.teacher, x.student_texts, x.teacher_texts)


@dataclass(frozen=True)
class Entry:
    """Our form of an implementation; ``why`` is the reason where the two differ, or where there is no such form."""

    ours: str
    loss: Loss | None
    why: str = ""


_RKD = "25 rkd_distance + 50 rkd_angle"
NOT_OFFERED = "not offered"
ENTRIES = {
    "repdistiller.rkd": Entry(_RKD, rkd(25, 50)),
    "repdistiller.rkd_distance": Entry("rkd_distance", on(F.rkd_distance)),
    "repdistiller.rkd_angle": Entry("rkd_angle", on(F.rkd_angle)),
    "repdistiller.sp": Entry("similarity_preserving", on(F.similarity_preserving)),
    "repdistiller.pkt": Entry("pkt", on(F.pkt)),
    "repdistiller.cc": Entry("correlation_congruence_adjacent", on(F.correlation_congruence_adjacent)),
    "repdistiller.kd_T4": Entry("kd", on(F.kd)),
    "repdistiller.kd_T1": Entry("kd(temperature=1)", on(F.kd, temperature=1.0)),
    "repdistiller.fitnet": Entry("fitnet", on(F.fitnet)),
    "repdistiller.at": Entry("attention_transfer", on_maps(F.attention_transfer)),
    "repdistiller.nst": Entry("nst", on_maps(F.nst)),
    "repdistiller.fsp": Entry("fsp", on_layers(F.fsp)),
    "lenscloth.rkd_distance": Entry("rkd_distance", on(F.rkd_distance)),
    "lenscloth.rkd_angle": Entry("rkd_angle", on(F.rkd_angle)),
    "lenscloth.hard_darkrank": Entry(NOT_OFFERED, None, "ranks of samples, not a graph; its gradient reaches 1e7"),
    "mdistiller.kd_T4": Entry("kd", on(F.kd)),
    "mdistiller.dkd": Entry("dkd", on_labels(F.dkd)),
    "mdistiller.dkd_tckd": Entry("dkd_target", on_labels(F.dkd_target)),
    "mdistiller.dkd_nckd": Entry("dkd_non_target", on_labels(F.dkd_non_target)),
    "mdistiller.rkd": Entry(_RKD, rkd(25, 50)),
    "mdistiller.rkd_squared": Entry(NOT_OFFERED, None, "squared distances are not the paper's RKD"),
    "mdistiller.sp": Entry("similarity_preserving", on(F.similarity_preserving)),
    "mdistiller.pkt": Entry("pkt", on(F.pkt)),
    "dist.tau1": Entry("dist", on(F.dist)),
    "dist.tau4": Entry("dist(temperature=4)", on(F.dist, temperature=4.0)),
    "dist.inter_only": Entry("dist_inter", on(F.dist_inter)),
    "dist.intra_only": Entry("dist_intra", on(F.dist_intra)),
    "dist_seg": Entry(NOT_OFFERED, None, "DIST of segmentation maps"),
    "hunto.kl_tau4": Entry("kd", on(F.kd)),
    "ickd.official": Entry("ickd", on_maps(F.ickd)),
    "torchdistill.ickd_chsim": Entry("ickd", on_maps(F.ickd), "divides by the batch size a second time"),
    "torchdistill.sp": Entry("similarity_preserving", on(F.similarity_preserving), "rows L1- instead of L2-normalised"),
    "torchdistill.rkd": Entry("rkd_distance + 2 rkd_angle", rkd(1, 2)),
    "torchdistill.pkt": Entry("pkt", on(F.pkt)),
    "torchdistill.cckd_gauss": Entry(
        "correlation_congruence", on(F.correlation_congruence), "Frobenius norm / n^2, not the mean square"
    ),
    "torchdistill.cckd_bilinear": Entry(
        "correlation_congruence", on(F.correlation_congruence), "bilinear kernel, Frobenius norm / n^2"
    ),
    "torchdistill.dist_tau1": Entry(
        "dist", on(F.dist), "eps as a maximum, not added: 1e-7 between soft predictions, 0.2 between sharp ones"
    ),
    "torchdistill.kd_alpha_half_T4": Entry("0.5 cross_entropy + 0.5 kd", _kd_and_labels),
    "torchdistill.kd_alpha0_T4": Entry("kd", on(F.kd), "leaves out T^2 when alpha is 0"),
    "torchdistill.logit_std_kd_T2": Entry(NOT_OFFERED, None, "standardised logits, not KD"),
    "kdzoo.sp": Entry("similarity_preserving", on(F.similarity_preserving)),
    "kdzoo.cc": Entry("correlation_congruence", on(F.correlation_congruence)),
    "kdzoo.irg_edge": Entry("irg_edge", on(F.irg_edge)),
    "kdzoo.irg_transformation": Entry("irg_transformation", on_layers(F.irg_transformation)),
    "kdzoo.irg": Entry("irg", _irg),
    "graph_kd.gkd": Entry("gkd", on_positive(F.gkd)),
    "graph_kd.gkd_power2": Entry("gkd(power=2)", on_positive(F.gkd, power=2)),
    "graph_kd.gkd_k3": Entry("gkd(neighbors=3)", on_positive(F.gkd, neighbors=3)),
    "mmrazor.rkd_distance": Entry("25 rkd_distance", rkd(25, 0), "normalises the inputs first"),
    "mmrazor.rkd_angle": Entry("50 rkd_angle", rkd(0, 50), "normalises the inputs first"),
    "mmrazor.dkd": Entry("dkd", on_labels(F.dkd)),
    "mmrazor.dist_tau1": Entry("dist", on(F.dist)),
    "kdlib.rkd": Entry("0.5 rkd_distance + 0.5 rkd_angle", rkd(0.5, 0.5), "clamps at 1e-10, adds 1e-7 to the mean"),
    "ega": Entry("ega(1, 0.3)", on(F.ega, node_weight=1.0, edge_weight=0.3)),
    "ega_node": Entry("ega_node", on(F.ega_node)),
    "ega_edge": Entry("ega_edge", on(F.ega_edge)),
    "open_clip.distill_clip": Entry("clip_distillation", _clip),
}


View = Callable[[Tensor, Inputs, int], Features]


def _samples(x: Tensor, inputs: Inputs, side: int) -> Features:
    return Features(embedding=x, logits=x)


def _maps(x: Tensor, inputs: Inputs, side: int) -> Features:
    return Features(maps={"map": inputs.maps[side]})


def _layers(x: Tensor, inputs: Inputs, side: int) -> Features:
    return Features(x, x, maps=dict(zip(("lower", "upper"), inputs.layers[side], strict=True)))


def _positive(x: Tensor, inputs: Inputs, side: int) -> Features:
    return Features(maps={"map": x.abs()[..., None, None]})


def by(name: str, view: View = _samples, **options: Any) -> Loss:
    """The method of that name, as a training step computes it."""

    def loss(x: Inputs) -> Tensor:
        student, teacher = view(x.student, x, 0), view(x.teacher, x, 1)
        losses: Losses = create_distiller(name, student, teacher, **options)(student, teacher, target=x.target)
        return losses.total

    return loss


METHODS: dict[str, Loss] = {
    "repdistiller.rkd": by("rkd"),
    "lenscloth.rkd_distance": by("rkd", distance_weight=1.0, angle_weight=0.0),
    "lenscloth.rkd_angle": by("rkd", distance_weight=0.0, angle_weight=1.0),
    "repdistiller.sp": by("sp", on="embedding", weight=1.0),
    "repdistiller.pkt": by("pkt", weight=1.0),
    "repdistiller.cc": by("cc", form="adjacent", weight=1.0),
    "repdistiller.kd_T4": by("kd", weight=1.0),
    "repdistiller.kd_T1": by("kd", weight=1.0, temperature=1.0),
    "repdistiller.fitnet": by("fitnet", _maps, weight=1.0, adapter="none"),
    "repdistiller.at": by("at", _maps, weight=1.0),
    "repdistiller.nst": by("nst", _maps, weight=1.0),
    "repdistiller.fsp": by("fsp", _layers, weight=1.0),
    "mdistiller.dkd": by("dkd"),
    "mdistiller.dkd_tckd": by("dkd", beta=0.0),
    "mdistiller.dkd_nckd": by("dkd", alpha=0.0, beta=1.0),
    "dist.tau1": by("dist"),
    "dist.tau4": by("dist", temperature=4.0),
    "dist.inter_only": by("dist", gamma=0.0),
    "dist.intra_only": by("dist", beta=0.0),
    "ickd.official": by("ickd", _maps, weight=1.0, adapter="none"),
    "kdzoo.cc": by("cc", weight=1.0),
    "kdzoo.irg": by("irg", _layers),
    "graph_kd.gkd": by("gkd", _positive, weight=1.0),
    "graph_kd.gkd_power2": by("gkd", _positive, weight=1.0, power=2),
    "graph_kd.gkd_k3": by("gkd", _positive, weight=1.0, neighbors=3),
    "ega": by("ega", node_weight=1.0, edge_weight=0.3, teacher_head="none"),
    "ega_node": by("ega", node_weight=1.0, edge_weight=0.0, teacher_head="none"),
    "ega_edge": by("ega", node_weight=0.0, edge_weight=1.0, teacher_head="none"),
}
"""Stored result -> the distiller that trains by this loss, with the weights that the result was computed with."""


@dataclass(frozen=True)
class Expected:
    """One stored result: of which method and source, on which inputs. Entries of the gradient are row-major."""

    name: str
    source: str
    entry: Entry
    inputs: Inputs | None = None
    value: float = 0.0
    norm: float | None = None
    first: tuple[float, ...] = ()


def read(path: Path) -> Iterator[Expected]:
    """The stored results of a golden file.

    Raises: DataError for a file of another format, or a random generator that draws other inputs than stored.
    """
    try:
        golden = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no golden file: {error}; give tests/golden of a checkout") from error
    if "methods" in golden:
        yield from _methods(golden)
    elif isinstance(golden, dict) and "cases" in golden and "configs" in golden["cases"][0]:
        yield from _weights(golden)
    else:
        raise DataError(f"{path} is not a golden file: expected 'methods', or 'cases' with 'configs'")


def _methods(golden: dict[str, Any]) -> Iterator[Expected]:
    inputs = {case["id"]: _inputs(case, "f_t", "f_s") for case in golden["cases"]}
    for name, method in golden["methods"].items():
        entry = ENTRIES.get(name, Entry(NOT_OFFERED, None, "unknown to this version"))
        if entry.loss is None:
            yield Expected(name, method["source"], entry)
            continue
        for case, result in method["cases"].items():
            first = tuple(result["grad_first4"])
            yield Expected(name, method["source"], entry, inputs[case], result["value"], result["grad_norm"], first)


def _weights(golden: dict[str, Any]) -> Iterator[Expected]:
    source = golden["meta"]["source"]
    source = source.replace(source.partition("@")[2].partition(":")[0], source.partition("@")[2][:7])
    for case in golden["cases"]:
        inputs = _inputs(case, "ft", "fs")
        for part, loss in (("node", F.ega_node), ("edge", F.ega_edge)):
            grad, value = case[f"grad_fs_{part}_only"], case[f"loss_{part}"]
            yield Expected(
                f"ega/{part}",
                source,
                Entry(f"ega_{part}", on(loss)),
                inputs,
                value,
                grad["norm"],
                tuple(grad["first4"]),
            )
        for name, given in case["configs"].items():
            weights = {key: float(given[key]) for key in ("node_weight", "edge_weight")}
            grad, entry = (
                given["grad_fs"],
                Entry("ega({node_weight:g}, {edge_weight:g})".format(**weights), on(F.ega, **weights)),
            )
            yield Expected(f"ega/{name}", source, entry, inputs, given["total"], grad["norm"], tuple(grad["first4"]))
            swapped = Entry(entry.ours, lambda x, w=weights: F.ega(x.teacher, x.student, **w))  # type: ignore[misc]
            yield Expected(f"ega/{name}/swapped", source, swapped, inputs, given["total_swapped_args"])


def _inputs(case: dict[str, Any], teacher: str, student: str) -> Inputs:
    generator = torch.Generator().manual_seed(case["seed"])
    n, d = case["N"], case["D"]

    def draw() -> Tensor:
        return torch.randn(n, d, generator=generator, dtype=torch.float64)

    f_t, f_s = draw(), draw()
    near, scale = case.get("near", 0.5 if case.get("correlated") else 0.0), case.get("scale", 1.0)
    f_t, f_s = scale * f_t, scale * (near * f_t + (1 - near) * f_s)
    inputs = Inputs(f_t, f_s, torch.randint(0, d, (n,), generator=generator), draw(), draw(), case.get("channels", 1))
    stored = {f"{teacher}_first4": f_t.flatten()[:4], f"{student}_first4": f_s.flatten()[:4]}
    stored |= {f"{teacher}_sum": f_t.sum(), f"{student}_sum": f_s.sum(), "targets_first8": inputs.target[:8].double()}
    for key, drawn in stored.items():
        if key in case and not torch.allclose(drawn, torch.tensor(case[key], dtype=torch.float64), rtol=1e-12):
            raise DataError(f"{key} of seed {case['seed']} is not as stored: this torch draws other random numbers")
    return inputs
