"""A small student and teacher for the tests of EIKD."""

import torch

from graphkd.features import Features

ONLY_IMPLICIT = {"kd_weight": 0.0, "explicit_weight": 0.0}


def features(n=6, d=5, c=12, *, grad=False, dtype=torch.float64, seed=0):
    draw = torch.Generator().manual_seed(seed)
    embedding, logits, small = (
        torch.randn(*shape, generator=draw, dtype=dtype).requires_grad_(grad)
        for shape in ((n, d), (n, c), (n, 3, 4, 4))
    )
    return Features(embedding=embedding, logits=logits, maps={"m": small})


def pair(**options):
    return features(grad=True, **options), features(d=7, seed=1, **options)
