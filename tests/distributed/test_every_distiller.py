"""Several ranks equal one process: every method, and three under their options; values, gradients and buffers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from graphkd.distillers.base import DISTILLERS, Distiller
from graphkd.distillers.eikd.class_dropping import DatasetClasses, TopK
from graphkd.distillers.factory import create_distiller
from graphkd.distillers.pseudo_labels import PseudoLabels
from graphkd.features import Features
from tests.distiller_laws import CLASSES, NAMES, OPTIONS, beside, gradients, networks, rows, with_gradient
from tests.distributed.ranks import SAMPLES, WORLDS, own_rows

KEPT = [name for name in NAMES if not DISTILLERS.get(name).global_batch.startswith("undefined")]
LAWFUL = [name for name in KEPT if DISTILLERS.get(name).global_batch in ("exact", "per_image")]
# Options under which a method's terms are other reductions; functions, for some hold state.
UNDER_OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "prg stable class": lambda: {"preset": "stable", "edges": "class"},
    "prg stable sample": lambda: {"preset": "stable", "edges": "sample"},
    "prg ega class": lambda: {"preset": "ega", "edges": "class"},
    "prg ega sample": lambda: {"preset": "ega", "edges": "sample"},
    "prg features alone": lambda: {"rho": 1.0},
    "prg teacher gram": lambda: {"node_target": "teacher_gram"},
    "prg relation": lambda: {"preset": "relation"},
    "prg confident labels": lambda: {"labels": PseudoLabels("soft", threshold=0.4)},
    "eikd top classes": lambda: {"relation": "cosine_mean", "drop": TopK(3), "explicit": "features"},
    "eikd classes of the data": lambda: {"drop": DatasetClasses(torch.arange(CLASSES) % 4 != 0), "label_weight": 1.0},
    "crg projector": lambda: {"spectral_form": "projector"},
    "crg unit gram": lambda: {"edge_affinity": "unit_gram", "edge_alignment": "row_squares", "edge_attention": "off"},
}
CASES = [*KEPT, *UNDER_OPTIONS]


def made(case: str, student: Features, teacher: Features) -> Distiller:
    """A method as it is, with its BatchNorm in eval mode, as it sees one rank only; or under its options."""
    name = case.partition(" ")[0]
    options = UNDER_OPTIONS[case]() if case in UNDER_OPTIONS else {}
    torch.manual_seed(0)
    distiller = create_distiller(name, student, teacher, **OPTIONS.get(name, {}), **options)
    return distiller.double().train(case in UNDER_OPTIONS)


def losses_and_gradients(case: str, chosen: slice) -> dict[str, Any]:
    """What one process gets from its share of the batch."""
    student, teacher = networks(SAMPLES)
    distiller = made(case, student, teacher)
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
        "buffers": {key: each.double() for key, each in distiller.named_buffers()},
    }


def every_outcome(split: str) -> dict[str, Any]:
    return {case: losses_and_gradients(case, own_rows(split)) for case in CASES}


@pytest.fixture(scope="module")
def whole():
    return every_outcome("")


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("split", ["even", "uneven"])
@pytest.mark.parametrize("case", CASES)
def test_ranks_equal_one_process(once_on_ranks, whole, same, case, split, world):
    one, several = whole[case], [each[case] for each in once_on_ranks(world, every_outcome, split)]
    for kind in ("values", "buffers"):
        for key, expected in one[kind].items():
            for rank in several:  # the same global value and state everywhere
                same(rank[kind][key], expected, key)
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
