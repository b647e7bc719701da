"""FGD's masks: their law, their two sources, and their transfer."""

import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd.errors import OptionError, UnknownNameError
from graphkd.graphs.attention import (
    ATTENTION,
    channel_attention,
    no_attention,
    spatial_attention,
    teacher_attention,
)


def maps(seed=0, shape=(3, 5, 7)):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_masks_of_two_channels_by_hand():  # means of |F|: channels 0.5 and 0; positions 0, 0.5; e^(0.5 / 0.5) = e
    x = tensor([[0.0, -1.0], [0.0, 0.0]])
    assert_close(channel_attention(x), 2 * tensor([math.e, 1]) / (math.e + 1))
    assert_close(spatial_attention(x), 2 * tensor([1, math.e]) / (math.e + 1))


@pytest.mark.parametrize("name", sorted(ATTENTION))
def test_masks_are_non_negative_have_mean_one_and_no_gradient(name):
    student, teacher = maps(0).requires_grad_(), maps(1).requires_grad_()
    masks = ATTENTION.get(name)(student, teacher)
    for mask, shape in ((masks.channel, (3, 5)), (masks.spatial, (3, 7))):
        assert mask.shape == shape
        assert (mask >= 0).all()
        assert not mask.requires_grad
        assert_close(mask.mean(-1), torch.ones(3, dtype=torch.float64))


def test_a_hot_temperature_tends_to_no_attention():
    masks, off = teacher_attention(maps(0), maps(1), tau=1e9), no_attention(maps(0), maps(1))
    assert_close(masks.channel, off.channel)
    assert_close(masks.spatial, off.spatial)


def test_a_dead_map_has_even_masks():
    assert_close(channel_attention(torch.zeros(4, 6)), torch.ones(4))


@pytest.mark.parametrize("mask", [channel_attention, spatial_attention])
def test_a_temperature_of_zero_is_refused(mask):
    with pytest.raises(OptionError, match="softmax temperature > 0, found 0"):
        mask(maps(), 0.0)


def test_an_unknown_attention_is_named():
    with pytest.raises(UnknownNameError, match="unknown attention 'techer'; did you mean 'teacher'"):
        ATTENTION.get("techer")
