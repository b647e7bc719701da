"""The page on other tools runs as printed: every block is short, and only sizes and names of large models are replaced."""

import re
from pathlib import Path

import pytest
import torch

from tests.models.hf_models import small

for package in ("lightning", "transformers"):
    pytest.importorskip(package, reason="pip install 'graphkd[integrations]'")

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_is_short(block):
    assert len([line for line in block.splitlines() if line.strip()]) <= 15


def test_the_page_runs(tmp_path, monkeypatch, digits, teacher_checkpoint):
    import timm
    from safetensors.torch import save_file

    for index in range(12):
        folder = tmp_path / "photos" / ("cat", "dog", "horse")[index % 3]
        folder.mkdir(parents=True, exist_ok=True)
        digits.image(index).resize((32, 32)).save(folder / f"{index}.png")
    monkeypatch.chdir(tmp_path)
    save_file(timm.create_model("test_resnet", num_classes=7).state_dict(), "resnet18.safetensors")
    replaced = {
        '"ViT-L-14-quickgelu"': repr(str(teacher_checkpoint.with_name("config.json"))),
        'pretrained="openai"': f"pretrained={str(teacher_checkpoint)!r}",
        '"resnet18"': '"test_resnet"',
        "hf:google/vit-base-patch16-224": f"hf:{small('vit', tmp_path / 'vit', 3)}",
        "facebook/dinov2-small": str(small("dinov2", tmp_path / "dino", form="Model")),
        "View(224)": "View(32)",
        "range(100)": "range(1)",
        "loader(256)": "loader(4)",
        "max_epochs=100": "max_epochs=1, accelerator='cpu', logger=False, enable_progress_bar=False",
        "batch_size=256, num_train_epochs=100": "batch_size=4, num_train_epochs=1, use_cpu=True, disable_tqdm=True",
    }
    space = {"images": torch.rand(2, 3, 32, 32)}
    for number, block in enumerate(BLOCKS, start=1):
        for printed, replacement in replaced.items():
            block = block.replace(printed, replacement)
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), space)
    assert (tmp_path / "student.safetensors").is_file()
    assert (tmp_path / "out" / "student.safetensors").is_file()
    assert set(space["losses"]) == {"prg/ce", "prg/node", "prg/edge", "prg/kl"}
