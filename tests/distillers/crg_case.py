"""Maps and distillers for the tests of CRG."""

import torch

from graphkd.distillers.crg.distiller import CRGDistiller
from graphkd.features import Features

F64 = torch.float64


def maps(channels=10, size=5, batch=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, size, size, dtype=F64, generator=g).relu()


def features(*values, logits=False):
    g = torch.Generator().manual_seed(7)
    scores = torch.randn(len(values[0]), 4, dtype=F64, generator=g) if logits else None
    return Features(maps={f"m{i}": value for i, value in enumerate(values)}, logits=scores)


def crg(student, teacher, **options):
    torch.manual_seed(0)
    return CRGDistiller.between(student, teacher, **{"k": 4, **options}).double()


def of_maps(student, teacher, **options):
    s, t = features(student), features(teacher)
    return crg(s, t, **options)(s, t)
