"""A batch in chunks is the batch: same terms, same gradients, the activations of one chunk."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from graphkd.chunks import in_chunks, preserve_buffers
from graphkd.distillers.base import Distiller
from graphkd.distillers.factory import create_distiller
from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.errors import GraphKDError, MissingFeatureError, OptionError
from graphkd.features import Features
from graphkd.graphs.graph import Graph
from graphkd.models.tap import Tap
from graphkd.step import Step, labelled_cross_entropy
from tests.distiller_laws import NAMES, OPTIONS

F64 = torch.float64
CLASSES = 5


def network(norm=nn.Identity, drop=0.0, width=10):
    """A tap on two maps; the sizes are those that every method takes."""
    body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), norm(width), nn.Tanh())
    deeper = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), norm(2 * width), nn.Tanh())
    model = nn.Sequential(
        body, deeper, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(drop), nn.Linear(2 * width, CLASSES)
    )
    return Tap(model.to(F64), maps=["0", "1"])


def images(count, size=8):
    return torch.randn(count, 3, size, size, dtype=F64, generator=torch.Generator().manual_seed(1))


def with_tokens(features):
    """Tokens as a transformer would give them, from the deeper map."""
    return replace(features, tokens={"0": features.maps["1"].flatten(2).mT})


class WithTokens(nn.Module):
    def __init__(self, tap):
        super().__init__()
        self.tap = tap

    def forward(self, x):
        return with_tokens(self.tap(x))


def beside(count):
    return {"target": torch.arange(count) % CLASSES, "index": torch.arange(count)}


def outcome(step, x, teacher, given, chunk):
    """Terms and gradients of one step from one start."""
    torch.manual_seed(3)
    step.chunk = chunk
    step.zero_grad()
    losses = step(x, teacher, **given)
    losses.total.backward()
    return dict(losses), {name: p.grad for name, p in step.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk", [3, 4, 12])
def test_chunks_of_every_method_give_its_terms_and_gradients(name, chunk):
    torch.manual_seed(0)
    student, teacher = WithTokens(network()), with_tokens(network(width=10).eval()(images(12))).detach()
    distiller = create_distiller(name, student(images(12)), teacher, **OPTIONS.get(name, {})).to(F64).eval()
    step = Step(student, distiller, task=labelled_cross_entropy)
    whole = outcome(step, images(12), teacher, beside(12), None)
    parts = outcome(step, images(12), teacher, beside(12), chunk)
    assert_close(parts, whole, rtol=1e-9, atol=1e-12)


def test_a_chunk_that_does_not_divide_the_batch_is_made_nearly_even():
    assert [span.stop - span.start for span in in_chunks(10, 4)] == [3, 3, 4]
    assert in_chunks(10, None) == [slice(0, 10)]


def test_dropout_is_the_same_in_both_passes():
    torch.manual_seed(0)
    student = network(drop=0.5)
    seen = []
    student.model[4].register_forward_hook(lambda module, args, out: seen.append(out.detach().clone()))
    step = Step(student, task=labelled_cross_entropy, chunk=4)
    after = step(images(12), **beside(12)).total
    state = torch.get_rng_state()
    after.backward()
    first, again = seen[:3], seen[3:]
    assert_close(again, first[::-1], rtol=0, atol=0)  # the last chunk's gradient is due first
    assert torch.equal(torch.get_rng_state(), state)  # the second pass draws nothing anew
    assert not torch.equal(first[0] == 0, first[1] == 0)


def test_the_first_pass_leaves_batchnorm_alone_and_the_second_moves_it_once_a_chunk():
    torch.manual_seed(0)
    student = network(norm=nn.BatchNorm2d)
    norm = student.model[0][1]
    step = Step(student, task=labelled_cross_entropy, chunk=4)
    start = {name: value.clone() for name, value in step.named_buffers()}
    losses = step(images(12), **beside(12))
    assert_close(dict(step.named_buffers()), start, rtol=0, atol=0)
    losses.total.backward()
    assert norm.num_batches_tracked == 3
    mean = torch.zeros(10, dtype=F64)
    for part in images(12).split(4)[::-1]:
        mean = 0.9 * mean + 0.1 * student.model[0][0](part).mean((0, 2, 3)).detach()
    assert_close(norm.running_mean, mean)


def test_the_check_of_the_head_moves_no_buffer_where_it_passes_through_a_chunk():
    torch.manual_seed(0)
    step = Step(network(norm=nn.BatchNorm2d), PRGDistiller(20, 6, CLASSES).to(F64), chunk=4)
    teacher = Features(
        *(torch.randn(*shape, dtype=F64) for shape in ((12, 6), (12, CLASSES), (CLASSES, 6), (CLASSES, CLASSES)))
    )
    losses = step(images(12), teacher)  # proxy_logits lead to the proxies inside the first chunk
    assert step.student.model[0][1].num_batches_tracked == 0
    losses.total.backward()
    assert step.student.model[0][1].num_batches_tracked == 3


def test_without_gradient_there_is_one_pass():
    step = Step(network(norm=nn.BatchNorm2d), task=labelled_cross_entropy, chunk=4)
    with torch.no_grad():
        step(images(12), **beside(12))
    assert step.student.model[0][1].num_batches_tracked == 3


def test_buffers_come_back_though_they_were_replaced():
    norm = nn.BatchNorm1d(2)
    held = norm.running_mean
    with preserve_buffers(norm):
        norm(torch.randn(4, 2))
        norm.running_mean = torch.ones(2)
    assert norm.running_mean is held
    assert (held == 0).all()


def test_an_unreached_head_is_refused_in_chunks_too():
    step = Step(network(), create_distiller("fitnet", *[network()(images(2))] * 2).to(F64), chunk=2)
    with pytest.raises(GraphKDError, match="reaches the student's classifier"):
        step(images(4), network()(images(4)).detach())


def test_a_method_that_forgot_to_say_that_it_relates_maps_is_told():
    class Forgot(Distiller):
        def __init__(self):
            super().__init__()
            self.terms = self.weighted_terms(size=(1.0, lambda pair: pair.student["map"].x.sum()))

        def build(self, features, side):
            return Graph().add("map", features.need("maps", "Forgot")["0"].flatten(1))

    with pytest.raises(MissingFeatureError, match="Forgot needs features.maps") as caught:
        Step(network(), Forgot(), task=labelled_cross_entropy, chunk=2)(images(4), network()(images(4)), **beside(4))
    assert "relates_maps = True" in caught.value.__notes__[0]


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_has_a_sample(chunk):
    with pytest.raises(OptionError, match=f"chunk is a number of samples >= 1, .* found {chunk}"):
        Step(network(), task=labelled_cross_entropy, chunk=chunk)


def test_a_distiller_in_chunks_needs_the_teacher():
    step = Step(network(), create_distiller("fitnet", *[network()(images(2))] * 2).to(F64), chunk=2)
    with pytest.raises(MissingFeatureError, match="FitNetDistiller needs the teacher's features"):
        step(images(4))
