"""The laws of every registered method: registering one is all that it takes to be tested here."""

import ast
import inspect
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.base import DISTILLERS
from tests.distiller_laws import (
    NAMES,
    beside,
    between,
    features,
    gradients,
    networks,
    rows,
    set_projectors_to_identity,
    with_gradient,
)

every = pytest.mark.parametrize("name", NAMES)


def test_there_are_at_least_eighteen_methods():
    assert len(NAMES) >= 18


@every
@pytest.mark.parametrize("samples", [1, 2, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_and_gradients_are_finite(name, samples, dtype):
    student, teacher = networks(samples, dtype)
    student = with_gradient(student)
    losses = between(name, student, teacher, torch.float32)(student, teacher, **beside(samples))
    assert losses
    for term, value in losses.items():
        assert value.shape == (), term
        assert value.dtype == torch.float32, term
        assert torch.isfinite(value), term
    assert all(torch.isfinite(each).all() for each in gradients(losses, student))


@every
def test_terms_that_should_vanish_at_the_teacher_do(name):
    teacher = features(12, 1)
    student = with_gradient(teacher)
    distiller = between(name, student, teacher)
    set_projectors_to_identity(distiller)
    losses = distiller.eval()(student, teacher, **beside(12))
    named = {key.partition("/")[2]: value for key, value in losses.items()}
    for term in distiller.zero_at_teacher & named.keys():
        assert_close(named[term], torch.zeros_like(named[term]), atol=1e-9, rtol=0, msg=f"{name}/{term} {named[term]}")
    assert all(torch.isfinite(each).all() for each in gradients(losses, student))


@every
def test_gradient_reaches_the_student_only(name):
    student, teacher = (with_gradient(each) for each in networks(12))
    losses = between(name, student, teacher)(student, teacher, **beside(12))
    assert max(each.abs().max() for each in gradients(losses, student)) > 0
    losses.total.backward()
    assert all(each.grad is None for each in teacher.tensors())


@every
def test_features_of_inference_mode_are_features_as_any(name):
    student, teacher = networks(12)
    with torch.inference_mode():
        seen, given = networks(12)[1], beside(12)
    student, distiller = with_gradient(student), between(name, student, teacher)
    expected = deepcopy(distiller)(student, teacher, **beside(12))
    found = distiller(student, seen, **given)
    assert_close(dict(found), dict(expected), rtol=0, atol=0)
    for ours, theirs in zip(gradients(found, student), gradients(expected, student), strict=True):
        assert_close(ours, theirs, rtol=0, atol=0)
    with torch.inference_mode():
        distiller(networks(12)[0], seen, **given)


@every
@pytest.mark.parametrize("side", ["student", "teacher"])
@pytest.mark.parametrize("part", ["embedding", "logits", "maps", "tokens"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_goes_out_and_raises_nothing(name, side, part, bad):
    student, teacher = networks(12)
    distiller = between(name, student, teacher).eval()
    clean = distiller(student, teacher, **beside(12)).total

    def spoilt(features):
        values = getattr(features, part)
        changed = {key: value.clone() for key, value in values.items()} if isinstance(values, dict) else values.clone()
        for each in changed.values() if isinstance(changed, dict) else [changed]:
            each.view(-1)[0] = bad
        return replace(features, **{part: changed})

    if side == "student":
        student = spoilt(student)
    else:
        teacher = spoilt(teacher)
    student = with_gradient(student)
    total = distiller(student, teacher, **beside(12)).total
    total.backward()
    assert not torch.isfinite(total) or torch.equal(total, clean)  # a method that does not read the part


@every
@pytest.mark.parametrize("of_student", [False, True])
def test_classes_that_the_teacher_masks_give_finite_losses(name, of_student):
    def masked(features):
        changed = {part: getattr(features, part).clone() for part in ("logits", "proxy_logits")}
        for each in changed.values():
            each[:, 3] = -torch.inf
        return replace(features, **changed)

    student, teacher = networks(12)
    distiller = between(name, student, teacher)
    student = with_gradient(masked(student) if of_student else student)
    losses = distiller(student, masked(teacher), **beside(12) | {"target": torch.arange(12) % 3})
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(torch.isfinite(each).all() for each in gradients(losses, student))


@every
@pytest.mark.parametrize(("wrong", "found"), [
    (lambda x: (x.embedding, x.logits), "a tuple"),
    (lambda x: {"embedding": x.embedding}, "a dict"),
    (lambda x: x.embedding, r"a tensor \(4, 8\)"),
    (lambda x: None, "a NoneType"),
])  # fmt: skip
def test_anything_else_than_features_is_refused(name, wrong, found):
    student, teacher = networks(4)
    distiller = between(name, student, teacher)
    with pytest.raises(
        TypeError, match=f"takes Features of both networks, found {found} of the teacher: wrap its network"
    ):
        distiller(student, wrong(teacher), **beside(4))


@every
def test_order_of_the_batch_does_not_matter(name):
    student, teacher = networks(12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(5))
    distiller = between(name, student, teacher)
    shuffled = deepcopy(distiller)(
        rows(student, order), rows(teacher, order), **{key: value[order] for key, value in beside(12).items()}
    )
    assert_close(dict(distiller(student, teacher, **beside(12))), dict(shuffled), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("name", "backend"), [
    *[(name, "aot_eager") for name in ("at", "dist", "kd", "prg", "rkd")],  # seconds each: the others with the slow ones
    *[pytest.param(name, "inductor", marks=pytest.mark.slow) for name in NAMES],
])  # fmt: skip
def test_compiled_equals_eager(name, backend):
    student, teacher = networks(8, torch.float32)
    student = with_gradient(student)
    eager = between(name, student, teacher, torch.float32)
    torch._dynamo.reset()
    compiled = torch.compile(deepcopy(eager), backend=backend, fullgraph=True)
    expected = eager(student, teacher, **beside(8))
    found = compiled(student, teacher, **beside(8))
    assert_close(dict(found), dict(expected), rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(gradients(found, student), gradients(expected, student), strict=True):
        assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


@every
def test_state_dict_round_trip(name):
    student, teacher = networks(12)
    first = between(name, student, teacher)
    first(student, teacher, **beside(12))  # memories and running means have moved
    second = between(name, student, teacher)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.normal_()
    second.load_state_dict(first.state_dict())
    found = second(student, teacher, **beside(12))
    assert_close(dict(found), dict(first(student, teacher, **beside(12))), rtol=0, atol=0)


@every
def test_a_copy_stands_on_its_own(name):
    student, teacher = networks(12)
    original = between(name, student, teacher)
    copy = deepcopy(original)
    assert_close(
        dict(copy(student, teacher, **beside(12))), dict(original(student, teacher, **beside(12))), rtol=0, atol=0
    )
    shared = {id(each) for each in original.parameters()} & {id(each) for each in copy.parameters()}
    assert not shared
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.fill_(torch.nan)
    assert torch.isfinite(original(student, teacher, **beside(12)).total)


@every
def test_what_a_method_needs_is_asked_for(name):
    student, teacher = networks(4)
    distiller = between(name, student, teacher)
    for missing in distiller.active_inputs:
        given = {key: value for key, value in beside(4).items() if key != missing}
        with pytest.raises(ValueError, match=f"needs {missing}=..."):
            distiller(student, teacher, **given)


@every
def test_docstring_names_its_source(name):
    text = inspect.getdoc(DISTILLERS.get(name)) or ""
    for part in ("[Pp]aper|arXiv", "Args:", "Shapes:", "Example:"):
        assert re.search(part, text), f"{name}: {part}"
    assert ".. math::" in text or ":math:" in text


@pytest.mark.parametrize("name", sorted(set(NAMES) & set(functional.__all__)))
def test_function_and_distiller_have_the_same_defaults(name):
    function, method = (
        {key: each.default for key, each in inspect.signature(made).parameters.items()}
        for made in (getattr(functional, name), DISTILLERS.get(name))
    )
    shared = {key for key in function.keys() & method.keys() if function[key] is not inspect.Parameter.empty}
    assert shared or name in ("fitnet", "fsp", "ickd", "nst", "pkt")  # theirs is one weight, the caller's
    assert {key: function[key] for key in shared} == {key: method[key] for key in shared}


@every
def test_what_it_says_of_several_ranks(name):
    assert re.fullmatch(r"exact|per_image|undefined: .+", DISTILLERS.get(name).global_batch)


@every
def test_file_fits_on_a_screen_or_two(name):
    """At most 150 lines of code with its tensor function, docstrings, comments and blank lines not counted."""
    path = Path(inspect.getfile(DISTILLERS.get(name)))
    text = path.read_text(encoding="utf-8")
    documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module
    skipped = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            skipped |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = [
        line
        for number, line in enumerate(text.splitlines(), 1)
        if number not in skipped and line.strip() and not line.strip().startswith("#")
    ]
    assert len(lines) <= 150, f"{path.name}: {len(lines)} lines of code"
