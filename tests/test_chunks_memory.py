"""4096 samples in chunks of 64: the gradients of the whole batch, and the activations of one chunk."""

import pytest
import torch
from torch.testing import assert_close

from graphkd.distillers.factory import create_distiller
from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.features import Features
from graphkd.step import Step
from tests.memory import Memory
from tests.test_chunks import CLASSES, F64, images, network, outcome


def bytes_of(step, x, teacher):
    """(most that a chunk adds while it runs, held for all chunks between the passes, most that the loss adds)."""
    with Memory(x, *teacher.tensors(), *step.parameters(), *step.buffers()) as memory:
        hooks = [
            step.student.register_forward_pre_hook(lambda *_: memory.event("enter")),
            step.student.register_forward_hook(lambda *_: memory.event("exit")),
        ]
        step(x, teacher).total.backward()
        memory.event("end")
    for hook in hooks:
        hook.remove()
    chunks = 1 if step.chunk is None else len(x) // step.chunk
    names = [name for name, _, _ in memory.events]
    if step.chunk is None:
        return max(peak for _, _, peak in memory.events) - memory.events[0][1], 0, 0
    assert names == ["enter", "exit"] * 2 * chunks + ["end"]
    first, second = memory.events[: 2 * chunks], memory.events[2 * chunks :]
    forward = [out[2] - into[1] for into, out in zip(first[::2], first[1::2], strict=True)]
    both = [
        max(out[2], after[2]) - into[1]
        for into, out, after in zip(second[:-1:2], second[1::2], second[2::2], strict=True)
    ]
    held = second[0][1] - first[0][1]
    return max(forward + both), held, second[0][2] - first[-1][1]


def large(count, width=16):
    """A student, teacher features, and a step: relations over the whole batch, and maps of each image."""
    torch.manual_seed(0)
    student = network(width=width)
    shapes = (count, 24), (count, CLASSES), (CLASSES, 24), (CLASSES, CLASSES)
    maps = {"0": torch.randn(count, 12, 8, 8, dtype=F64), "1": torch.randn(count, 20, 4, 4, dtype=F64)}
    teacher = Features(*(torch.randn(*shape, dtype=F64) for shape in shapes), maps=maps)
    prg = PRGDistiller(2 * width, 24, CLASSES).to(F64)
    sp, fitnet = (
        create_distiller("sp", student, teacher, on="embedding"),
        create_distiller("fitnet", student(images(2)), teacher),
    )
    return Step(student, prg, sp, fitnet.to(F64).eval()), teacher


@pytest.mark.slow
def test_4096_samples_in_chunks_of_64_give_the_gradients_of_the_whole():
    step, teacher = large(4096)
    whole, parts = (outcome(step, images(4096), teacher, {}, chunk) for chunk in (None, 64))
    apart = {name: float((parts[1][name] - g).abs().max() / g.abs().max()) for name, g in whole[1].items()}
    print(f"4096 in chunks of 64, largest relative difference of a gradient: {max(apart.values()):.1e}")
    assert_close(parts[0], whole[0], rtol=1e-10, atol=0)
    assert max(apart.values()) <= 1e-6


@pytest.mark.parametrize("count", [256, pytest.param(4096, marks=pytest.mark.slow)])
def test_activations_are_those_of_one_chunk(count):
    step, teacher = large(count)
    step(images(2), teacher.rows(slice(2)))  # the check of the head happens once
    alone, _, _ = bytes_of(step, images(64), teacher.rows(slice(64)))
    step.chunk = 64
    step.zero_grad()
    most, held, loss = bytes_of(step, images(count), teacher)
    rows = count * (32 + CLASSES) * 8
    print(
        f"{count} in chunks of 64: activations {most / alone:.3f} of one chunk's {alone / 2**20:.1f} MiB, "
        f"held {held / rows:.2f} times the {rows / 2**20:.1f} MiB of embeddings and logits, the loss adds "
        f"{loss / 2**20:.1f} MiB"
    )
    assert most <= 1.1 * alone
    assert held <= 4 * rows
