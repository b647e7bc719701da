"""Pseudo-labels, nodes, edges to class proxies, and Hinton's divergence at temperature 4."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.method import method
from benchmarks.official.logits import kd
from benchmarks.official.samples import rows
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def edges(x: Features) -> Tensor:
    """Mean of the correlations of features and of logits with those of the proxies."""
    return (rows(x.embedding) @ rows(x.proxies).T + rows(x.logits) @ rows(x.proxy_logits).T) / 2


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """The equations of docs/methods/prg.md, with the distiller's projector."""
    f = distiller.graph.projector(student.embedding, "student")
    node = (rows(teacher.embedding) @ rows(f).T + rows(teacher.logits) @ rows(student.logits).T) / 2
    difference = edges(teacher) - edges(student)
    edge = difference.norm() / difference.numel() ** 0.5
    labels = cross_entropy(student.logits, teacher.logits.argmax(1))
    return labels + (1 - node.diagonal()).mean() + edge + kd(student.logits, teacher.logits)


CASES = [method("prg", "embedding logits proxies proxy_logits", total)]
