"""The table of losses by batch size says what the losses do."""

import re

import pytest
import torch

from graphkd import functional as F
from tests.pages import ROOT

PAGE = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
LOSSES = {
    "`rkd` distances": F.rkd_distance,
    "`cc`, kernel form": F.correlation_congruence,
    "`sp`": F.similarity_preserving,
    "`pkt`": F.pkt,
    "`ega` nodes": F.ega_node,
    "`ega` edges": F.ega_edge,
}


def table():
    rows = re.findall(
        r"^\| ([^|]+) \| ([\d.]+) \| ([\d.]+) \|",
        PAGE.split("### Weights and the batch")[1].split("###")[0],
        re.MULTILINE,
    )
    return {name: {64: float(small), 256: float(large)} for name, small, large in rows}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("n", [64, 256])
def test_a_loss_has_the_size_of_the_table(name, n):
    generator = torch.Generator().manual_seed(0)
    losses = [LOSSES[name](*torch.randn(2, n, 64, generator=generator)) for _ in range(4)]
    assert torch.stack(losses).mean().item() == pytest.approx(table()[name][n], rel=0.1)


def test_the_table_has_these_losses():
    assert table().keys() == LOSSES.keys()
