import pytest
import torch
from torch.testing import assert_close

from graphkd.data.mixing import Mixing, mixing_generator
from graphkd.errors import OptionError


def batch(n=6, h=9, w=7):
    return torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(0))


def test_mixup_is_the_blend_that_its_mixture_says():
    images = batch()
    mixed, mixture = Mixing(mixup_alpha=1.0)(images, mixing_generator(0, 0, 0))
    assert_close(mixed, mixture.blend(images))
    assert 0 < mixture.share[0] < 1
    assert mixture.permutation.sort().values.tolist() == list(range(6))


@pytest.mark.parametrize("step", range(12))
def test_cutmix_share_is_the_true_area(step):
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 9, 7).contiguous()
    mixed, mixture = Mixing(cutmix_alpha=1.0)(images, mixing_generator(0, 0, step))
    for i in range(6):
        partner = int(mixture.permutation[i])
        kept = (mixed[i] == i).float().mean()
        assert set(mixed[i].unique().tolist()) <= {float(i), float(partner)}
        assert_close(kept, torch.ones(()) if partner == i else mixture.share[i])
    assert images[3].eq(3).all()  # the batch that came in is as it was


def test_cutmix_boxes_reach_the_borders_and_differ():
    shares = {float(Mixing(cutmix_alpha=1.0)(batch(), mixing_generator(0, 0, s))[1].share[0]) for s in range(20)}
    assert len(shares) > 8
    assert all(0 <= share <= 1 for share in shares)


def test_mixing_is_a_pure_function_of_seed_epoch_step_and_rank():
    mix, images = Mixing(0.8, 1.0), batch()
    one, _ = mix(images, mixing_generator(1, 2, 3))
    torch.rand(5)
    assert torch.equal(one, mix(images, mixing_generator(1, 2, 3))[0])
    others = [(2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 2, 3, 1)]
    assert all(not torch.equal(one, mix(images, mixing_generator(*key))[0]) for key in others)


def test_both_ways_are_taken_and_prob_is_respected():
    images, mix = batch(), Mixing(1.0, 1.0, prob=0.5)
    pure, blended, boxed = 0, 0, 0
    for step in range(80):
        mixed, mixture = mix(images, mixing_generator(0, 0, step))
        if mixed is images:
            pure += 1
            assert mixture.permutation.tolist() == list(range(6))
            assert mixture.share.eq(1).all()
        elif torch.allclose(mixed, mixture.blend(images), atol=1e-6):
            blended += 1
        else:
            boxed += 1
    assert 25 < pure < 55
    assert min(blended, boxed) > 8


def test_off_leaves_everything_as_it_is():
    images = batch()
    assert Mixing()(images, mixing_generator(0, 0, 0))[0] is images


def test_senseless_options():
    with pytest.raises(OptionError, match=r"prob in \[0, 1\], found Mixing\(mixup_alpha=0.1.*prob=2"):
        Mixing(0.1, prob=2)
