"""A run is one thing, whoever started it: a Trainer's run folder in the hands of the commands."""

import json
from pathlib import Path

import pytest
import timm
import torch

from graphkd import Step, Tap, TrainConfig, Trainer, Views, open_folder
from graphkd.data.transforms import CenterView
from graphkd.step import labelled_cross_entropy
from tests.pages import ROOT, blocks


def test_the_first_page_continued_by_the_commands(graphkd, class_folders, teacher_checkpoint, tmp_path):
    small = {
        '"photos"': '"images"',
        '"ViT-L-14-quickgelu"': repr(str(teacher_checkpoint.with_name("config.json"))),
        '"openai"': repr(str(teacher_checkpoint)),
        '"resnet18"': '"test_efficientnet"',
        "224": "32",
        "epochs=100, batch_size=256": "epochs=1, batch_size=16, progress=False",
    }
    code = next(each.text for each in blocks("python") if each.page == ROOT / "docs" / "index.md")
    for printed, replacement in small.items():
        assert printed in code
        code = code.replace(printed, replacement)
    exec(compile(code, "docs/index.md", "exec"), {})
    if not Path("runs/mine/student.json").is_file():
        pytest.skip("this Trainer writes no student.json")
    assert graphkd.json("evaluate --model runs/mine --data images")["images"] == 60
    assert graphkd.json("export runs/mine --formats safetensors,torch")["good"]
    assert graphkd.json("report runs/mine")["pictures"] > 0
    teacher = "--teacher runs/mine --method kd --student test_efficientnet --size 32 --trackers ''"
    graphkd(f"distill --data images {teacher} --epochs 1 --batch-size 16 --run next --no-report --quiet")


@pytest.fixture
def own_run(graphkd, class_folders):
    """A run of a network that no library lists."""
    Path("networks.py").write_text(
        "import timm, torch\n\n\ndef small():\n    net = timm.create_model('test_resnet', num_classes=5)\n"
        "    net.layer1.append(torch.nn.Identity())\n    return net\n"
    )
    model = timm.create_model("test_resnet", num_classes=5)
    model.layer1.append(torch.nn.Identity())
    images = open_folder("images")
    views = Views(images, student=CenterView(32), labels=True)
    config = TrainConfig(epochs=1, batch_size=16, progress=False, trackers=())
    tap = Tap(model, mean=[0.5] * 3, std=[0.5] * 3)
    Trainer(Step(tap, task=labelled_cross_entropy), views, None, config, "own").fit()
    facts = {"student": None, "module": "timm.models.resnet.ResNet", "num_classes": 5, "classes": list(images.classes)}
    Path("own/student.json").write_text(json.dumps(facts | {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}))


def test_a_network_of_ones_own_is_built_by_its_author(graphkd, own_run):
    missing = "own holds a network of your own, which graphkd cannot build by its name"
    graphkd.refused("evaluate --model own --data images", missing, "give --model-from package.module:function")
    assert graphkd.json("evaluate --model own --model-from networks:small --data images")["images"] == 60
    graphkd("inspect --model own --model-from networks:small --data images --quiet")
    assert graphkd.json("export own --model-from networks:small --formats safetensors,torch")["good"]
    for wrong in ("networks:large", "nowhere:small"):
        line = f"evaluate --model own --model-from {wrong} --data images"
        graphkd.refused(line, f"--model-from {wrong} cannot be had", "name a function of a module that Python finds")
