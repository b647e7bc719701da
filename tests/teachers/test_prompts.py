import math

import pytest
import torch
from torch.testing import assert_close

from graphkd.errors import OptionError, ShapeError, UnknownNameError
from graphkd.teachers.prompts import PROMPT_SCOPES, PROMPT_WEIGHTS, prompt_logits, prompt_scores, weighted_texts
from tests.memory import Memory

SCORES = {
    "scaled": lambda z, s: z,
    "cosine": lambda z, s: z / s,
    "probability": lambda z, s: z.softmax(-1),
}
WEIGHTS = {
    "ratio": lambda m: m.clamp_min(1e-6),
    "softmax": lambda m: (m - m.max()).exp(),
    "uniform": torch.ones_like,
}


def unit(*shape, seed=0, offset=0.5):
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + offset
    return torch.nn.functional.normalize(x, dim=-1)  # the offset makes a narrow cone, as CLIP's is


def materialised(image, texts, scale, weight, scope, score, tau):
    """All prompts at once: the formula of the docstring, written with a [p, b, c] tensor."""
    logits = scale * torch.einsum("bd,pcd->pbc", image, texts)
    m = SCORES[score](logits, scale)
    m = m.amax(-1, keepdim=True) if scope == "sample" else m
    g = WEIGHTS[weight](m / tau)
    return (g / g.sum(0) * logits).sum(0)


@pytest.mark.parametrize("weight", list(WEIGHTS))
@pytest.mark.parametrize("scope", ["sample", "class"])
@pytest.mark.parametrize("score", list(SCORES))
@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_streamed_equals_materialised(weight, scope, score, tau):
    image, texts = unit(7, 12), unit(9, 5, 12, seed=1)
    options = {"weight": weight, "scope": scope, "score": score, "tau": tau}
    expected = materialised(image, texts, 100.0, **options)
    assert_close(prompt_logits(image, texts, 100.0, **options), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("weight", "maxima"), [("ratio", [3.0, 1.0]), ("softmax", [math.log(3), 0.0])]
)  # both give the weights 3/4 and 1/4
def test_weights_by_hand(weight, maxima):
    image, texts = torch.tensor([[1.0, 0.0]]), torch.tensor([[[each, 0.0], [each - 1, 0.0]] for each in maxima])
    mean = 0.75 * maxima[0] + 0.25 * maxima[1]
    assert_close(prompt_logits(image, texts, 1.0, weight=weight), torch.tensor([[mean, mean - 1]]))


def test_chunks_of_rows_change_nothing(monkeypatch):
    image, texts = unit(7, 12), unit(9, 5, 12, seed=1)
    whole = prompt_logits(image, texts, 100.0)
    monkeypatch.setattr("graphkd.teachers.prompts.CHUNK", 11)  # two rows at a time
    assert_close(prompt_logits(image, texts, 100.0), whole)


@pytest.mark.parametrize("weight", list(PROMPT_WEIGHTS))
@pytest.mark.parametrize("scope", list(PROMPT_SCOPES))
@pytest.mark.parametrize("prompts", [1, 6])
def test_weights_sum_to_one(weight, scope, prompts):  # one prompt, or the same many times: the logits are its own
    image, text = unit(4, 12), unit(1, 5, 12, seed=1)
    got = prompt_logits(image, text.expand(prompts, 5, 12), 100.0, weight=weight, scope=scope)
    assert_close(got, 100 * image @ text[0].T, atol=1e-12, rtol=1e-12)


def test_ratio_ignores_the_scale_and_softmax_does_not():
    image, texts = unit(4, 12), unit(6, 5, 12, seed=1)

    def difference(weight):
        low, high = (prompt_logits(image, texts, scale, weight=weight) / scale for scale in (1.0, 100.0))
        return float((low - high).abs().max())

    assert difference("ratio") < 1e-12
    assert difference("softmax") > 1e-3


def test_softmax_survives_large_logits():
    image, texts = unit(4, 12).float(), unit(6, 5, 12, seed=1).float()
    got = prompt_logits(image, texts, 1e6, weight="softmax")
    assert got.isfinite().all()


def test_negative_maxima_count_as_the_floor():
    image, texts = -unit(4, 12, offset=3.0), unit(6, 5, 12, seed=1, offset=3.0)
    assert (image @ texts.mT).max() < 0
    got = prompt_logits(image, texts, 100.0)
    assert_close(got, prompt_logits(image, texts, 100.0, weight="uniform"))


def test_half_precision_texts_are_raised_to_the_images_precision():
    image, texts = unit(4, 12).float(), unit(6, 5, 12, seed=1).half()
    got = prompt_logits(image, texts, 100.0)
    assert got.dtype == torch.float32
    assert_close(got, prompt_logits(image, texts.float(), 100.0))


def test_no_gradient_reaches_anything():
    image, texts = unit(4, 12).requires_grad_(), unit(6, 5, 12, seed=1).requires_grad_()
    assert not prompt_logits(image, texts, 100.0).requires_grad


@pytest.mark.parametrize("weight", list(PROMPT_WEIGHTS))
@pytest.mark.parametrize("scope", list(PROMPT_SCOPES))
def test_weights_of_a_data_set_come_in_two_stages(weight, scope):
    image, texts = unit(20, 12), unit(6, 5, 12, seed=1)
    scores = prompt_scores(image.split(8), texts, 100.0, scope=scope)
    got = 100 * image @ weighted_texts(texts, scores, weight=weight).T

    logits = 100 * torch.einsum("bd,pcd->pbc", image, texts)
    m = (logits.amax(-1, keepdim=True) if scope == "sample" else logits).mean(1, keepdim=True)
    g = WEIGHTS[weight](m)
    assert_close(got, (g / g.sum(0) * logits).sum(0), atol=1e-10, rtol=1e-10)


def test_texts_without_scores_are_averaged():
    texts = unit(6, 5, 12)
    assert_close(weighted_texts(texts), texts.mean(0))


IMAGE, TEXTS = unit(4, 12), unit(6, 5, 12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: prompt_logits(IMAGE, TEXTS, 1.0, weight="ratoi"),
            UnknownNameError,
            r"unknown prompt weight 'ratoi'; did you mean 'ratio'\? Known: ratio, soft",
        ),
        (lambda: prompt_logits(IMAGE, TEXTS, 1.0, score="cos"), UnknownNameError, "unknown prompt score 'cos'"),
        (lambda: prompt_logits(IMAGE, TEXTS, 1.0, scope="row"), UnknownNameError, "unknown prompt scope 'row'"),
        (lambda: prompt_logits(IMAGE[:, 1:], TEXTS, 1.0), ShapeError, r"the same d, found \(4, 11\) and \(6, 5, 12\)"),
        (lambda: prompt_logits(IMAGE, TEXTS, 1.0, tau=0), OptionError, "must be > 0, found scale=1.0 and tau=0"),
        (lambda: prompt_scores([], TEXTS, 1.0), OptionError, "at least one image, found none"),
        (lambda: weighted_texts(TEXTS, torch.ones(2, 1)), ShapeError, "2 prompt scores and 6 prompts differ"),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("weight", ["ratio", "softmax"])
@pytest.mark.parametrize("scope", ["sample", "class"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_memory_does_not_grow_with_the_prompts(weight, scope, dtype):
    """Bytes of tensors alive at once beyond the inputs, b = 1024, c = 1000."""
    image, peaks = torch.rand(1024, 8), []
    for prompts in (8, 80):
        texts = torch.rand(prompts, 1000, 8).to(dtype)
        with Memory(image, texts) as memory:
            prompt_logits(image, texts, 100.0, weight=weight, scope=scope)
        peaks.append(memory.peak / 2**20)
    assert max(peaks) <= 64, f"{peaks} MiB"
    assert min(peaks) >= 7.8, "the count misses the two [b, c] matrices that any way of streaming holds"
    assert peaks[0] == pytest.approx(peaks[1], rel=0.1)
