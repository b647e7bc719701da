"""Every Python block of the documentation runs as printed.

The blocks of a page run in order and share their names; they find class names, a batch of images, a loader of such batches,
and a folder of photos. Only what needs a network or hours is replaced: the model by a tiny local one, the length of a run.
"""

import re
from textwrap import dedent

import pytest
import torch

import graphkd
from graphkd.distillers.base import DISTILLERS
from graphkd.distillers.factory import distillers
from graphkd.graphs.alignments import ALIGNMENTS
from graphkd.graphs.relations import RELATIONS
from tests.main_job import digits, teacher_checkpoint
from tests.pages import DOCS, ROOT
from tests.pages import blocks as all_blocks

__all__ = ["digits", "teacher_checkpoint"]
PAGES = [ROOT / "CONTRIBUTING.md", *DOCS]
CLASSES = ["cat", "dog", "horse"]


def blocks(page):
    return [dedent(each.text) for each in all_blocks("python") if each.page == page]


@pytest.fixture
def own_registries(monkeypatch):
    """What a page registers is forgotten afterwards; what the library registers is there before."""
    distillers()
    for registry in (ALIGNMENTS, DISTILLERS, RELATIONS):
        monkeypatch.setattr(registry, "_parts", dict(registry._parts))


@pytest.fixture
def photos(tmp_path, digits):
    for index in range(12):
        folder = tmp_path / "photos" / CLASSES[index % 3]
        folder.mkdir(parents=True, exist_ok=True)
        digits.image(index).resize((64, 64)).save(folder / f"{index}.png")


# docs/integrations.md, which needs more packages, runs in tests/integrations/test_page.py;
# docs/production.md, which needs a run and its export, in tests/cli/test_predict.py
PRINTED = [page for page in PAGES if blocks(page) and page.stem not in ("integrations", "production")]


@pytest.mark.parametrize("page", PRINTED, ids=lambda page: page.stem)
def test_a_page_runs_from_top_to_bottom(page, photos, own_registries, teacher_checkpoint, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    small = {
        '"ViT-L-14-quickgelu"': repr(str(teacher_checkpoint.with_name("config.json"))),
        'pretrained="openai"': f"pretrained={str(teacher_checkpoint)!r}",
        "View(224)": "View(64)",
        "epochs=100, batch_size=256": "epochs=1, batch_size=4, progress=False",
        'student="resnet50", method="rkd")': 'student="test_resnet", teacher="timm:test_vit", size=64, seconds=0.01)',
    }
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    space = {"names": CLASSES, "images": images, "loader": [images]}
    for number, block in enumerate(blocks(page), start=1):
        for printed, replacement in small.items():
            block = block.replace(printed, replacement)
        exec(compile(block, f"{page.name}, block {number}", "exec"), space)


def test_every_public_name_stands_in_the_reference():
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    modules = re.findall(r"^::: (\S+)$", reference, flags=re.MULTILINE)
    listed = {path.rpartition(".")[2] for path in modules}
    inside = {name for name in graphkd.__all__ if getattr(getattr(graphkd, name), "__module__", None) in modules}
    assert set(graphkd.__all__) - listed - inside - {"functional"} == set()
