"""Every loss of graphkd.functional as a function of (student (n, d), teacher (n, d), target): shared by the tests."""

from collections.abc import Callable

from graphkd import functional as F
from graphkd.typing import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def maps(x: Tensor, channels: int = 8) -> Tensor:
    return x.reshape(len(x), channels, x.shape[1] // channels // 2, 2)


def two_maps(x: Tensor) -> tuple[Tensor, Tensor]:
    """A map of 4 channels and a smaller one of 8, neither of them constant."""
    return maps(x, 4), maps(x).flip(1)


def _dsig(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    front = y % 2 == 0
    return F.dsig(s, t, front, y % 3 == 0)


LOSSES: dict[str, Loss] = {
    "kd": lambda s, t, y: F.kd(s, t),
    "dkd": lambda s, t, y: F.dkd(s, t, y),
    "dkd_target": lambda s, t, y: F.dkd_target(s, t, y),
    "dkd_non_target": lambda s, t, y: F.dkd_non_target(s, t, y),
    "dist": lambda s, t, y: F.dist(s, t),
    "dist_inter": lambda s, t, y: F.dist_inter(s, t, 4.0),
    "dist_intra": lambda s, t, y: F.dist_intra(s, t, 4.0),
    "rkd_distance": lambda s, t, y: F.rkd_distance(s, t),
    "rkd_angle": lambda s, t, y: F.rkd_angle(s, t),
    "similarity_preserving": lambda s, t, y: F.similarity_preserving(s, t),
    "pkt": lambda s, t, y: F.pkt(s, t),
    "correlation_congruence": lambda s, t, y: F.correlation_congruence(s, t),
    "correlation_congruence_adjacent": lambda s, t, y: F.correlation_congruence_adjacent(s, t),
    "gkd": lambda s, t, y: F.gkd(s, t),
    "gkd_masked_square": lambda s, t, y: F.gkd(s, t, 2, 3),
    "ega": lambda s, t, y: F.ega(s, t),
    "ega_node": lambda s, t, y: F.ega_node(s, t),
    "ega_edge": lambda s, t, y: F.ega_edge(s, t),
    "irg": lambda s, t, y: F.irg(s, t, two_maps(s), two_maps(t), s, t),
    "irg_edge": lambda s, t, y: F.irg_edge(s, t),
    "irg_transformation": lambda s, t, y: F.irg_transformation(two_maps(s), two_maps(t)),
    "dsig": _dsig,
    "trg": lambda s, t, y: F.trg(s.view(len(s), -1, 8), t.view(len(t), -1, 8)),
    "trg_inner": lambda s, t, y: F.trg_inner(s.view(len(s), -1, 8), t.view(len(t), -1, 8)),
    "trg_local": lambda s, t, y: F.trg_local(s, t),
    "trg_local_reverse": lambda s, t, y: F.trg_local(s, t, 3, reverse=True),
    "trg_global": lambda s, t, y: F.trg_global(s, t),
    "clip_distillation": lambda s, t, y: F.clip_distillation(s, t, s.flip(1), t.flip(1)),
    "ickd": lambda s, t, y: F.ickd(maps(s), maps(t)),
    "fsp": lambda s, t, y: F.fsp(two_maps(s), two_maps(t)),
    "nst": lambda s, t, y: F.nst(maps(s), maps(t)),
    "attention_transfer": lambda s, t, y: F.attention_transfer(maps(s), maps(t)),
    "crg_vertex": lambda s, t, y: F.crg_vertex(maps(s), maps(t)),
    "crg_edge": lambda s, t, y: F.crg_edge(maps(s), maps(t)),
    "crg_spectral": lambda s, t, y: F.crg_spectral(maps(s, 4), maps(t, 4), k=3),  # all: no gap at a cut to depend on
    "fitnet": lambda s, t, y: F.fitnet(s, t),
    "explicit_features": lambda s, t, y: F.explicit_features(s, t),
    "implicit_relations": lambda s, t, y: F.implicit_relations(s, t),
    "class_dropped_top": lambda s, t, y: F.class_dropped_kd(s, t, F.top_classes(t, 3)),
    "class_dropped_mass": lambda s, t, y: F.class_dropped_kd(s, t, F.mass_classes(t, 0.5)),
    "class_dropped_teacher_only": lambda s, t, y: F.class_dropped_kd(s, t, F.top_classes(t, 3), student_keeps_all=True),
    "prg_node": lambda s, t, y: F.prg_node(s, t, s, t),
    "prg_node_identity": lambda s, t, y: F.prg_node(s, t, s, t, target="identity"),
    "prg_node_teacher_gram": lambda s, t, y: F.prg_node(s, t, s, t, target="teacher_gram"),
    "prg_node_centred_gram": lambda s, t, y: F.prg_node(s, t, rho=1.0, target="centred_gram", relation="cosine"),
    "prg_edge": lambda s, t, y: F.prg_edge(s, t, s[:2], t[:2], s, t, s[:2], t[:2]),
}

OF_LOGITS = [
    "kd",
    "dkd",
    "dkd_target",
    "dkd_non_target",
    "dist",
    "dist_inter",
    "dist_intra",
    "irg",
    "prg_node",
    "prg_node_identity",
    "prg_node_teacher_gram",
    "prg_edge",
    "class_dropped_top",
    "class_dropped_mass",
    "class_dropped_teacher_only",
]
NOT_ZERO_AT_TEACHER = {
    "ega",
    "ega_node",
    "prg_node_identity",
    "trg",
    "trg_global",
    "clip_distillation",
    "class_dropped_teacher_only",
}
ORDERED = {"correlation_congruence_adjacent", "prg_edge"}  # their first samples are special here
