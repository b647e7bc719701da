"""16-bit features reach the operations as they are; without kernels that read them the numbers are those of float32."""

import pytest
import torch
from graphkd_kernels import dispatch

import graphkd
from graphkd import ops
from graphkd.distillers.combined import CombinedDistiller
from graphkd.distillers.kd import KDDistiller
from graphkd.distillers.pkt import PKTDistiller
from graphkd.distillers.rkd import RKDDistiller
from graphkd.distillers.sp import SPDistiller
from graphkd.features import Features, Mixture

READERS = {
    "kd": KDDistiller,
    "pkt": PKTDistiller,
    "rkd": lambda: RKDDistiller(angle_weight=0),  # two terms are two gradients, each rounded before they are added
    "sp": SPDistiller,
}
HALVES = [torch.bfloat16, torch.float16]


def rows(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def features(dtype, seed):
    """Of 8 samples: 16-bit leaves."""
    given = rows(8, 6, seed=seed), rows(8, 5, seed=seed + 9)
    maps = {"m": rows(8, 3, 4, 4, seed=seed + 5)}
    return Features(*given, maps=maps).map_tensors(lambda x: x.to(dtype).requires_grad_())


def total(distiller, student, teacher):
    """Loss, and the gradients of what it reaches."""
    value = distiller(student, teacher).total
    return [value, *torch.autograd.grad(value, student.tensors(), allow_unused=True)]


@pytest.fixture
def seen(monkeypatch):
    """Types of the tensors that operations are given, as if there were kernels here."""
    monkeypatch.setattr(ops, "kernels_read_16_bits", lambda device: True)
    types, run = set(), dispatch._run

    def note(operation, *args):
        types.update(x.dtype for x in args if isinstance(x, torch.Tensor))
        return run(operation, *args)

    monkeypatch.setattr(dispatch, "_run", note)
    return types


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("backend", ["auto", "eager", "blocked"])
@pytest.mark.parametrize("name", READERS)
def test_operations_read_16_bits_and_the_numbers_are_those_of_float32(name, backend, dtype, seen):
    student, teacher, distiller = features(dtype, 0), features(dtype, 1).detach(), READERS[name]()
    with graphkd.backend(backend):
        found = total(distiller, student, teacher)
        assert seen == {dtype}
        wide = total(distiller, student.as_float32(), teacher.as_float32())
    assert found[0].dtype == torch.float32
    for one, other in zip(found, wide, strict=True):
        assert one is other is None or torch.equal(one, other.to(one.dtype))


def test_the_option_asks_for_float32(seen):
    student, teacher = features(torch.bfloat16, 0), features(torch.bfloat16, 1).detach()
    with graphkd.backend("auto", precision="float32"):
        RKDDistiller()(student, teacher)
    assert seen == {torch.float32}


def test_a_cpu_gets_float32():
    assert not ops.kernels_read_16_bits(torch.device("cpu"))
    assert ops.kernels_read_16_bits(torch.device("cuda"))


def test_a_combination_passes_them_on(seen):
    student, teacher = features(torch.bfloat16, 0), features(torch.bfloat16, 1).detach()
    CombinedDistiller({"kd": KDDistiller(), "sp": SPDistiller(on="embedding")})(student, teacher)
    assert seen == {torch.bfloat16}


def test_a_mixture_of_types_and_one_of_images():
    student, teacher = features(torch.bfloat16, 0), features(torch.float16, 1).detach()
    found = total(KDDistiller(), student, teacher)
    assert torch.equal(found[0], total(KDDistiller(), student.as_float32(), teacher.as_float32())[0])
    mixture = Mixture(torch.arange(8).flip(0), torch.full((8,), 0.3))
    blended = Features(teacher.embedding, teacher.logits, mixture=mixture).blended()
    assert blended.logits.dtype == torch.float32
    assert torch.equal(blended.logits, mixture.blend(teacher.logits.float()))


def test_float64_stays_the_students_precision():
    student, teacher = features(torch.float64, 0), features(torch.bfloat16, 1).detach()
    assert RKDDistiller()(student, teacher).total.dtype == torch.float64
