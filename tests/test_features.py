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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blend_by_hand(dtype):
    mixture = Mixture(tensor([1, 0]), tensor([0.75, 1.0]))
    given = tensor([[4.0, 0], [0, 8]], dtype=dtype)
    assert_close(mixture.blend(given), tensor([[3.0, 2], [0, 8]], dtype=dtype))
    assert_close(mixture.blend(tensor([4.0, 8.0])), tensor([5.0, 8.0]))


def test_blended_features_have_their_proxies_and_no_mixture(full):
    mixture = Mixture(tensor([1, 0]), tensor([0.25, 1.0]))
    blended = Features(full.embedding, full.logits, full.proxies, full.proxy_logits, mixture=mixture).blended()
    assert_close(blended.logits[1], full.logits[1])  # a share of one is unmixed
    assert_close(blended.embedding, mixture.blend(full.embedding))
    assert blended.proxies is full.proxies
    assert blended.proxy_logits is full.proxy_logits
    assert blended.mixture is None


def test_blended_without_mixture_or_parts(full):
    assert full.blended() is full
    assert Features(proxies=full.proxies, mixture=Mixture(tensor([0]), tensor([0.5]))).blended().embedding is None


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
    assert torch.equal(x.rows(torch.tensor([3, 0])).maps["a"], x.maps["a"][[3, 0]])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: Features(torch.zeros(1, 1)).need("proxies", "PRG"),
            "PRG needs features.proxies, which is absent: text",
        ),
        (lambda: Features(torch.zeros(1, 1)).need("maps", "CRG"), r"CRG needs features.maps.*Tap\(model, maps="),
        (lambda: Features().device, "these features are empty"),
        (lambda: Features().dtype, "these features are empty"),
        (
            lambda: len(Features(proxies=torch.zeros(1, 1))),
            "describe no sample: embedding, logits, maps and tokens",
        ),
    ],
)
def test_what_is_absent_says_where_it_comes_from(ask, message):
    with pytest.raises(MissingFeatureError, match=message):
        ask()
