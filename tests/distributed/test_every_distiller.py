"""Several ranks equal one process: every method, values and gradients of the student's features and its own parts."""

from typing import Any

import pytest
import torch

from graphkd.distillers.base import DISTILLERS
from graphkd.features import Features
from tests.distiller_laws import NAMES, beside, between, gradients, networks, rows, with_gradient
from tests.distributed.ranks import SAMPLES, WORLDS, own_rows

KEPT = [name for name in NAMES if not DISTILLERS.get(name).global_batch.startswith("undefined")]
LAWFUL = [name for name in KEPT if DISTILLERS.get(name).global_batch in ("exact", "per_image")]


def losses_and_gradients(name: str, chosen: slice) -> dict[str, Any]:
    """What one process gets from its share of the batch; BatchNorm is in eval mode, as it sees one rank only."""
    student, teacher = networks(SAMPLES)
    distiller = between(name, student, teacher).eval()
    part = with_gradient(rows(student, chosen))
    given = {key: value[chosen] for key, value in beside(SAMPLES).items()}
    losses = distiller(part, rows(teacher, chosen), **given)
    parameters = {key: each for key, each in distiller.named_parameters() if each.requires_grad}
    leaves = [*parameters.values()]
    found = torch.autograd.grad(losses.total, leaves, retain_graph=True, materialize_grads=True) if leaves else ()
    return {
        "values": {key: value.detach() for key, value in losses.items()},
        "features": gradients(losses, part),
        "parameters": dict(zip(parameters, found, strict=True)),
    }


def every_outcome(split: str) -> dict[str, Any]:
    return {name: losses_and_gradients(name, own_rows(split)) for name in KEPT}


@pytest.fixture(scope="module")
def outcomes(on_ranks):
    """Of all methods by number of ranks and split, computed once."""
    found = {}

    def of(world, split):
        if (world, split) not in found:
            found[world, split] = on_ranks(world, every_outcome, split)
        return found[world, split]

    return of


@pytest.fixture(scope="module")
def whole():
    return every_outcome("")


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("split", ["even", "uneven"])
@pytest.mark.parametrize("name", KEPT)
def test_ranks_equal_one_process(outcomes, whole, same, name, split, world):
    one, several = whole[name], [each[name] for each in outcomes(world, split)]
    for term, expected in one["values"].items():
        for rank in several:
            same(rank["values"][term], expected, term)
    # Each rank's gradient is W dL/d(own rows): the averaging of DDP over W ranks makes it dL/d(theta).
    for number, (leaf, expected) in enumerate(zip(_names(), one["features"], strict=True)):
        parts = [rank["features"][number] for rank in several]
        found = sum(parts) if leaf in ("proxies", "proxy_logits") else torch.cat(parts)
        same(found / world, expected, f"the gradient of the student's {leaf}")
    for parameter, expected in one["parameters"].items():
        same(sum(rank["parameters"][parameter] for rank in several) / world, expected, parameter)


def _names() -> list[str]:
    """What ``Features.tensors`` holds, in its order."""
    names = {id(value): name for name, value in vars(SAMPLE).items() if isinstance(value, torch.Tensor)}
    return [names.get(id(value), "maps and tokens") for value in SAMPLE.tensors()]


SAMPLE: Features = networks(SAMPLES)[0]


def test_every_method_says_which_law_it_keeps():
    assert KEPT == LAWFUL


def test_methods_without_this_law_are_few_and_say_why():
    undefined = {name: DISTILLERS.get(name).global_batch for name in NAMES if name not in KEPT}
    assert len(undefined) <= 3
    assert all(reason.removeprefix("undefined:").strip() for reason in undefined.values())
