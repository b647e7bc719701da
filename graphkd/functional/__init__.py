"""Every published loss as a pure function: student first, teacher second, a scalar out.

They see the samples they are given, never another rank's, compute in float32 or float64 whatever autocast says, and
give the teacher no gradient. Distillers add what is between samples of several ranks.
"""

from graphkd.functional.ega import ega, ega_edge, ega_node
from graphkd.functional.graphs import (
    clip_distillation,
    dsig,
    irg,
    irg_edge,
    irg_transformation,
    trg,
    trg_global,
    trg_inner,
    trg_local,
)
from graphkd.functional.logits import dist, dist_inter, dist_intra, dkd, dkd_non_target, dkd_target, kd
from graphkd.functional.maps import attention_transfer, fitnet, fsp, ickd, nst
from graphkd.functional.samples import (
    correlation_congruence,
    correlation_congruence_adjacent,
    gkd,
    pkt,
    rkd_angle,
    rkd_distance,
    similarity_preserving,
)

__all__ = [
    "attention_transfer",
    "clip_distillation",
    "correlation_congruence",
    "correlation_congruence_adjacent",
    "dist",
    "dist_inter",
    "dist_intra",
    "dkd",
    "dkd_non_target",
    "dkd_target",
    "dsig",
    "ega",
    "ega_edge",
    "ega_node",
    "fitnet",
    "fsp",
    "gkd",
    "ickd",
    "irg",
    "irg_edge",
    "irg_transformation",
    "kd",
    "nst",
    "pkt",
    "rkd_angle",
    "rkd_distance",
    "similarity_preserving",
    "trg",
    "trg_global",
    "trg_inner",
    "trg_local",
]
