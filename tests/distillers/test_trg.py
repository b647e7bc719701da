from dataclasses import replace

import torch
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.trg import TRGDistiller
from tests.distiller_laws import features, networks


def tokens(features):
    return features.tokens["blocks"]


def test_terms_equal_their_functions():
    student, teacher = features(4, 1), features(4, 2)
    losses = TRGDistiller.between(student, teacher, neighbors=3, temperature=0.2)(student, teacher)
    s, t = tokens(student), tokens(teacher)
    assert_close(losses["trg/inner"], functional.trg_inner(s, t))
    assert_close(losses["trg/local"], functional.trg_local(s.flatten(0, 1), t.flatten(0, 1), 3))
    assert_close(losses["trg/global"], functional.trg_global(s.flatten(0, 1), t.flatten(0, 1), 0.2))


def test_direction_of_the_local_divergence():
    student, teacher = features(4, 1), features(4, 2)
    only = {"inner_weight": 0.0, "global_weight": 0.0}
    found = TRGDistiller.between(student, teacher, direction="teacher", **only)(student, teacher).total
    assert_close(found, functional.trg_local(*(tokens(x).flatten(0, 1) for x in (student, teacher)), reverse=True))


def test_prefix_and_spacing_choose_tokens():
    student, teacher = features(4, 1), features(4, 2)
    longer = replace(teacher, tokens={"blocks": torch.cat([torch.full((4, 2, 6), 9.0), tokens(teacher)], 1)})
    with_prefix = TRGDistiller.between(student, longer, prefix=(0, 2))
    assert_close(dict(with_prefix(student, longer)), dict(TRGDistiller([(6, 6)])(student, teacher)))
    spaced = TRGDistiller([(6, 6)], tokens_per_image=2).build(student, "student")
    assert_close(spaced["token0"].x, tokens(student)[:, [0, 2]])


def test_positions_of_maps_are_tokens():
    student, teacher = networks(4)
    distiller = TRGDistiller.between(student, teacher, on="maps", pairs={"layer1": "layer2"}).double()
    assert distiller.projectors[0].weight.shape == (20, 10)
    assert distiller.build(distiller.prepare(student, teacher)[0], "student")["token0"].x.shape == (4, 16, 10)
    assert distiller(student, teacher).total.isfinite()
