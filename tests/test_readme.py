"""The README's loop runs as printed; only the model's name and tag are replaced by a tiny local teacher."""

import re
from pathlib import Path

import torch

from tests.main_job import digits, teacher_checkpoint
from tests.pages import rows

__all__ = ["digits", "teacher_checkpoint"]
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
METHOD_OF = {
    "rkd_distance": "rkd", "similarity_preserving": "sp", "correlation_congruence": "cc", "attention_transfer": "at",
}  # fmt: skip


def snippets():
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def first_snippet():
    return snippets()[0]


def test_the_loop_is_short():
    assert len([line for line in first_snippet().splitlines() if line.strip()]) <= 12


def test_the_methods_that_are_tested_against_published_code_are_counted():
    table = rows((ROOT / "docs" / "conformance.md").read_text(encoding="utf-8"))
    methods = {page.stem for page in (ROOT / "docs" / "methods").glob("*.md")} - {"index", "combined"}
    held = [row[1] for row in table if len(row) == 9 and row[2] == "conforms" and row[7]]  # as a distiller
    found = {METHOD_OF.get(name, name) for text in held for name in re.findall(r"[a-z_]+", text)} & methods
    assert len(found) == 15
    assert len(methods) == 21
    assert "twenty-one methods" in README
    assert "[fifteen of them]" in README


def test_the_loop_trains_the_student(teacher_checkpoint, digits, tmp_path, monkeypatch):
    config = teacher_checkpoint.with_name("config.json")
    code = first_snippet().replace("ViT-L-14-quickgelu", str(config)).replace('"openai"', repr(str(teacher_checkpoint)))
    generator = torch.Generator().manual_seed(0)
    loader = [(torch.rand(8, 3, 32, 32, generator=generator), None) for _ in range(2)]
    space = {"names": ["zero", "one", "two"], "loader": loader}
    exec(compile(code, "README.md", "exec"), space)
    assert set(space["losses"]) == {"prg/ce", "prg/node", "prg/edge", "prg/kl"}
    assert torch.isfinite(space["losses"].total)
    assert space["optimizer"].state  # it has stepped
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate(space["names"]):
        (tmp_path / "photos" / name).mkdir(parents=True)
        digits.image(index).save(tmp_path / "photos" / name / "1.png")
    exec(compile(snippets()[1].replace("View(224)", "View(32)"), "README.md, the store", "exec"), space)
    assert space["store"][torch.tensor([2, 0])].logits.shape == (2, 3)
