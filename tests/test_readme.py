"""The README's loop runs as printed; only the model's name and tag are replaced by a tiny local teacher."""

import re
from pathlib import Path

import torch

from tests.main_job import digits, teacher_checkpoint

__all__ = ["digits", "teacher_checkpoint"]
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def first_snippet():
    return re.search(r"```python\n(.*?)```", README, flags=re.DOTALL).group(1)


def test_the_loop_is_short():
    assert len([line for line in first_snippet().splitlines() if line.strip()]) <= 12


def test_the_loop_trains_the_student(teacher_checkpoint):
    config = teacher_checkpoint.with_name("config.json")
    code = first_snippet().replace("ViT-L-14-quickgelu", str(config)).replace('"openai"', repr(str(teacher_checkpoint)))
    generator = torch.Generator().manual_seed(0)
    loader = [(torch.rand(8, 3, 32, 32, generator=generator), None) for _ in range(2)]
    space = {"names": ["zero", "one", "two"], "loader": loader}
    exec(compile(code, "README.md", "exec"), space)
    assert set(space["losses"]) == {"prg/ce", "prg/node", "prg/edge", "prg/kl"}
    assert torch.isfinite(space["losses"].total)
    assert space["optimizer"].state  # it has stepped
