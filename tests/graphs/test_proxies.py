import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd.errors import MissingFeatureError, UnknownNameError
from graphkd.features import Features, Mixture
from graphkd.graphs.proxies import PROXIES, PROXY_LOGITS, class_means

EMBEDDING = tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
LOGITS = tensor([[2.0, 1, 0], [4, 1, 0], [0, 5, 1]])  # best classes 0, 0, 1; none of class 2
MEANS, SCORES = tensor([[2.0, 0], [0, 2], [0, 0]]), tensor([[3.0, 1, 0], [0, 5, 1], [0, 0, 0]])


@pytest.fixture
def own():
    return Features(EMBEDDING.clone(), LOGITS.clone(), torch.randn(3, 2), torch.randn(3, 3)).map_tensors(
        lambda value: value.requires_grad_()
    )


@pytest.fixture
def teacher():
    return Features(torch.randn(3, 4), LOGITS, torch.randn(3, 4), torch.randn(3, 3))


def source(name, dim=2):
    return PROXIES.get(name)(3, dim)


def test_own(own, teacher):
    assert source("own")(own, teacher) is own


def test_detached_proxies_are_constants(own, teacher):
    found = source("detached")(own, teacher)
    assert_close(found.proxies, own.proxies.detach())
    assert not found.proxies.requires_grad
    assert not found.proxy_logits.requires_grad
    assert found.embedding is own.embedding


def test_text_is_the_teachers(own, teacher):
    found = source("text")(own, teacher)
    assert found.proxies is teacher.proxies
    assert found.proxy_logits is teacher.proxy_logits


def test_learnable_proxies_are_scored_by_the_classifier(own, teacher):
    proxies = source("learnable")
    found = proxies(own, teacher)
    assert found.proxies is proxies.vectors
    assert_close(found.proxy_logits, proxies.vectors @ own.proxies.T)


def test_class_means_by_hand(own, teacher):
    found = source("class_mean")(own, teacher)
    assert_close(found.proxies, MEANS)
    assert_close(found.proxy_logits, SCORES)
    assert found.proxies.requires_grad


def test_class_means_of_blended_images_go_by_the_blended_logits(own):
    mixture = Mixture(tensor([2, 1, 0]), tensor([0.1, 1.0, 1.0]))  # the first image became mostly the third, of class 1
    teacher = Features(torch.randn(3, 4), LOGITS, mixture=mixture)
    assert_close(source("class_mean")(own, teacher).proxies, tensor([[3.0, 0], [0.5, 1], [0, 0]]))


def test_running_means_start_at_the_first_and_follow(own, teacher):
    proxies = source("class_mean_ema")
    first = proxies(own, teacher)
    assert_close(first.proxies, MEANS)
    assert_close(first.proxy_logits, SCORES)
    assert not first.proxies.requires_grad
    second = proxies(Features(EMBEDDING + 10, LOGITS), Features(logits=tensor([[0.0, 0, 1]] * 3)))  # all of class 2
    assert_close(second.proxies, tensor([[2.0, 0], [0, 2], [34 / 3, 32 / 3]]))
    third = proxies(Features(EMBEDDING + 10, LOGITS), teacher)
    assert_close(third.proxies[:2], 0.9 * MEANS[:2] + 0.1 * tensor([[12.0, 10], [10, 12]]))


def test_running_means_rest_in_eval_mode(own, teacher):
    proxies = source("class_mean_ema").eval()
    assert (proxies(own, teacher).proxies == 0).all()
    proxies.train()(own, teacher)
    before = proxies.eval()(own, teacher).proxies
    assert_close(proxies(Features(EMBEDDING + 10, LOGITS), teacher).proxies, before)


def test_running_means_given_out_do_not_change_later(own, teacher):
    proxies = source("class_mean_ema")
    first = proxies(own, teacher).proxies
    proxies(Features(EMBEDDING + 10, LOGITS), teacher)
    assert_close(first, MEANS)


def test_running_means_are_state():
    assert set(source("class_mean_ema").state_dict()) == {"embedding", "scores", "seen"}
    assert not source("class_mean").state_dict()


def test_class_means_of_a_data_set():
    proxies, scores = class_means(EMBEDDING, LOGITS)
    assert_close(proxies, MEANS)
    assert_close(scores, SCORES)


def test_one_hot_proxy_logits(own):
    found = PROXY_LOGITS.get("one_hot")(own)
    assert_close(found.proxy_logits, torch.eye(3))
    assert found.proxies is own.proxies


@pytest.mark.parametrize("name", ["own", "none"])
def test_proxy_logits_left_as_they_are(own, name):
    assert PROXY_LOGITS.get(name)(own) is own


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("detached", Features(EMBEDDING, LOGITS), "detached proxies needs features.proxies"),
        ("learnable", Features(EMBEDDING, LOGITS), "learnable proxies needs features.proxies"),
        ("class_mean", Features(EMBEDDING), "class means needs features.logits"),
    ],
)
def test_what_is_absent_is_named(teacher, name, given, message):
    with pytest.raises(MissingFeatureError, match=message):
        source(name)(given, teacher)


def test_a_miss_is_suggested():
    with pytest.raises(UnknownNameError, match="unknown proxy source 'class_means'; did you mean 'class_mean'"):
        PROXIES.get("class_means")
