from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd.errors import MissingFeatureError, ShapeError
from graphkd.features import Features, Mixture, as_compute


@pytest.fixture
def full():
    torch.manual_seed(0)
    return Features(
        embedding=torch.randn(2, 3),
        logits=torch.randn(2, 4),
        proxies=torch.randn(4, 3),
        proxy_logits=torch.randn(4, 4),
        maps={"layer": torch.randn(2, 5, 6, 6)},
        tokens={"block": torch.randn(2, 7, 3)},
    )


def test_blend_by_hand():
    mixture = Mixture(tensor([1, 0]), tensor([0.75, 1.0]))
    assert_close(mixture.blend(tensor([[4.0, 0], [0, 8]])), tensor([[3.0, 2], [0, 8]]))
    assert_close(mixture.blend(tensor([4.0, 8.0])), tensor([5.0, 8.0]))


def test_share_one_is_unmixed(full):
    mixed = Features(full.embedding, full.logits, mixture=Mixture(tensor([1, 0]), torch.ones(2))).blended()
    assert_close(mixed.embedding, full.embedding)
    assert_close(mixed.logits, full.logits)
    assert mixed.mixture is None


def test_blended_without_mixture_or_parts(full):
    assert full.blended() is full
    assert Features(proxies=full.proxies, mixture=Mixture(tensor([0]), tensor([0.5]))).blended().embedding is None


def test_blending_leaves_proxies_alone(full):
    mixture = Mixture(tensor([1, 0]), tensor([0.25, 0.5]))
    blended = Features(full.embedding, full.logits, full.proxies, full.proxy_logits, mixture=mixture).blended()
    assert blended.proxies is full.proxies
    assert blended.proxy_logits is full.proxy_logits


def test_blend_follows_the_precision_of_what_is_blended():
    assert Mixture(tensor([0]), tensor([0.5])).blend(torch.ones(1, dtype=torch.float64)).dtype == torch.float64


def test_length_is_that_of_the_batch(full):
    assert len(full) == 2
    assert len(Features(maps=full.maps)) == len(Features(tokens=full.tokens)) == len(Features(logits=full.logits)) == 2


def test_map_tensors_reaches_every_part(full):
    doubled = full.map_tensors(lambda value: 2 * value)
    assert len(doubled.tensors()) == len(full.tensors()) == 6
    for one, two in zip(full.tensors(), doubled.tensors(), strict=True):
        assert_close(two, 2 * one)


def test_detach(full):
    grown = full.map_tensors(lambda value: value.requires_grad_() * 1)
    assert all(value.requires_grad for value in grown.tensors())
    assert not any(value.requires_grad for value in grown.detach().tensors())


def test_to_moves_everything_with_the_mixture(full):
    moved = Features(full.embedding, maps=full.maps, mixture=Mixture(tensor([1, 0]), torch.ones(2))).to("meta")
    assert {value.device.type for value in moved.tensors()} == {"meta"}
    assert moved.mixture.permutation.device.type == moved.mixture.share.device.type == "meta"
    assert full.to("meta").device.type == "meta"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_precision_of_the_computation(full, given, expected):
    features = full.map_tensors(lambda value: value.to(given)).as_float32()
    assert {value.dtype for value in features.tensors()} == {expected}
    assert features.dtype == expected


def test_features_are_frozen(full):
    with pytest.raises(FrozenInstanceError):
        full.embedding = None


def test_what_is_absent_says_where_it_comes_from():
    with pytest.raises(MissingFeatureError, match="PRG needs features.proxies, which is absent: text embeddings or"):
        Features(torch.zeros(1, 1)).need("proxies", "PRG")
    with pytest.raises(MissingFeatureError, match=r"CRG needs features.maps.*Tap\(model, maps="):
        Features(torch.zeros(1, 1)).need("maps", "CRG")


@pytest.mark.parametrize("question", [lambda f: f.device, lambda f: f.dtype])
def test_an_empty_record(question):
    with pytest.raises(MissingFeatureError, match="these features are empty"):
        question(Features())


def test_a_record_without_samples():
    with pytest.raises(MissingFeatureError, match="describe no sample: embedding, logits, maps and tokens"):
        len(Features(proxies=torch.zeros(1, 1)))


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_graphs_are_made_of_real_numbers(dtype):
    with pytest.raises(ShapeError, match=r"expected a real floating-point tensor, found torch.*\.float\(\) first"):
        as_compute(torch.zeros(1, dtype=dtype))


def test_rows_and_joined_are_inverse():
    x = Features(
        embedding=torch.arange(8.0).view(4, 2), logits=torch.zeros(4, 3), proxies=torch.ones(3, 2),
        maps={"a": torch.rand(4, 1, 2, 2)}, tokens={"b": torch.rand(4, 5, 2)},
    )  # fmt: skip
    parts = [x.rows(slice(0, 1)), x.rows(slice(1, 4))]
    assert [len(part) for part in parts] == [1, 3]
    again = Features.joined(parts)
    for name in ("embedding", "logits", "proxies"):
        assert torch.equal(getattr(again, name), getattr(x, name))
    assert torch.equal(again.maps["a"], x.maps["a"])
    assert torch.equal(again.tokens["b"], x.tokens["b"])
    assert Features.joined([x]) is x
