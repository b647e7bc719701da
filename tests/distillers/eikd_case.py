"""A small student and teacher for the tests of EIKD."""

import torch

from graphkd.features import Features


def features(n=6, d=5, c=12, *, grad=False, dtype=torch.float64, seed=0):
    draw = torch.Generator().manual_seed(seed)
    shapes = (n, d), (n, c)
    embedding, logits = (torch.randn(*each, generator=draw, dtype=dtype).requires_grad_(grad) for each in shapes)
    return Features(embedding=embedding, logits=logits)


def pair(**options):
    return features(grad=True, **options), features(d=7, seed=1, **options)
