"""A small student and teacher for the tests of PRG, and its matrices as prg.md writes them."""

import torch
from torch import nn

from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.features import Features
from graphkd.graphs.relations import pearson

F64 = torch.float64
B, C, DS, DT = 6, 4, 5, 7
PARTS = ("embedding", "logits", "proxies", "proxy_logits")


def features(dim, seed, batch=B, scale=1.0, dtype=F64, grad=False):
    """A network whose head is linear: logits and proxy logits follow from embedding and proxies."""
    g = torch.Generator().manual_seed(seed)
    embedding, proxies, bias = (torch.randn(*shape, generator=g, dtype=F64) for shape in ((batch, dim), (C, dim), (C,)))
    embedding, proxies = embedding.to(dtype).requires_grad_(grad), proxies.to(dtype).requires_grad_(grad)
    bias = bias.to(dtype)
    return Features(embedding, scale * embedding @ proxies.T + bias, proxies, scale * proxies @ proxies.T + bias)


def student(**how):
    return features(DS, 0, **{"grad": True, **how})


def teacher(**how):
    return features(DT, 1, **{"scale": 3.0, **how})


def make(**options):
    torch.manual_seed(2)
    return PRGDistiller(DS, DT, C, **options).double()


def edges(f, z, p, g, rho=0.5):
    return rho * pearson(f, p) + (1 - rho) * pearson(z, g)


def forms(s, t, projector, rho=0.5):
    """N, E^T and E^S as prg.md writes them."""
    n = rho * pearson(t.embedding, projector(s.embedding)) + (1 - rho) * pearson(t.logits, s.logits)
    e_t, e_s = (edges(f.embedding, f.logits, f.proxies, f.proxy_logits, rho) for f in (t, s))
    return n, e_t, e_s


def identical(distiller):
    """The projector that changes nothing."""
    distiller.projector = nn.Identity()
    return distiller
