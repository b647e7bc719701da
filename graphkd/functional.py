"""Every published loss as a pure function: student first, teacher second, a scalar out.

They see the samples they are given, never another rank's, compute in float32 or float64 whatever autocast says, and
give the teacher no gradient. Distillers add what is between samples of several ranks.
"""

from graphkd.distillers.at import attention_transfer
from graphkd.distillers.cc import correlation_congruence, correlation_congruence_adjacent
from graphkd.distillers.clip import clip_distillation
from graphkd.distillers.crg.losses import crg_edge, crg_spectral, crg_vertex
from graphkd.distillers.dist import dist, dist_inter, dist_intra
from graphkd.distillers.dkd import dkd, dkd_non_target, dkd_target
from graphkd.distillers.dsig import dsig
from graphkd.distillers.ega import ega, ega_edge, ega_node
from graphkd.distillers.eikd.losses import (
    class_dropped_kd,
    dataset_classes,
    explicit_features,
    implicit_relations,
    mass_classes,
    random_classes,
    top_classes,
)
from graphkd.distillers.fitnet import fitnet
from graphkd.distillers.fsp import fsp
from graphkd.distillers.gkd import gkd
from graphkd.distillers.ickd import ickd
from graphkd.distillers.irg import irg, irg_edge, irg_transformation
from graphkd.distillers.kd import kd
from graphkd.distillers.nst import nst
from graphkd.distillers.pkt import pkt
from graphkd.distillers.prg.losses import prg_edge, prg_node
from graphkd.distillers.rkd import rkd_angle, rkd_distance
from graphkd.distillers.sp import similarity_preserving
from graphkd.distillers.trg import trg, trg_global, trg_inner, trg_local

__all__ = [
    "attention_transfer",
    "class_dropped_kd",
    "clip_distillation",
    "correlation_congruence",
    "correlation_congruence_adjacent",
    "crg_edge",
    "crg_spectral",
    "crg_vertex",
    "dataset_classes",
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
    "explicit_features",
    "fitnet",
    "fsp",
    "gkd",
    "ickd",
    "implicit_relations",
    "irg",
    "irg_edge",
    "irg_transformation",
    "kd",
    "mass_classes",
    "nst",
    "pkt",
    "prg_edge",
    "prg_node",
    "random_classes",
    "rkd_angle",
    "rkd_distance",
    "similarity_preserving",
    "top_classes",
    "trg",
    "trg_global",
    "trg_inner",
    "trg_local",
]
