"""The command line with Hugging Face's models, shards, frozen layers, first weights and stores of random views."""

import io
import shutil
import tarfile
from pathlib import Path

import pytest
import torch

from graphkd.training.checkpoint import student_weights

SMALL = "--size 32 --no-flip --epochs 2 --batch-size 16 --lr 3e-3 --trackers '' --quiet --json"
EFFICIENT = f"--student test_efficientnet {SMALL}"


@pytest.fixture
def shards(class_folders, tmp_path):
    """The same images in two shards, labels as numbers."""
    names = sorted(path.name for path in class_folders.iterdir())
    (tmp_path / "shards").mkdir()
    files = sorted(class_folders.rglob("*.*"))
    for shard in range(2):
        with tarfile.open(tmp_path / "shards" / f"{shard:03d}.tar", "w") as archive:
            for number, path in enumerate(files[shard::2]):
                archive.add(path, f"{number:05d}{path.suffix}")
                info = tarfile.TarInfo(f"{number:05d}.cls")
                text = str(names.index(path.parent.name)).encode()
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text))
    (tmp_path / "names.txt").write_text("\n".join(names))
    return tmp_path / "shards"


def test_shards_to_a_store_and_a_student(graphkd, shards, teacher):
    data = "--data shards --classes names.txt"
    assert graphkd.json(f"embed {data} {teacher} --out features --quiet --json")["samples"] == 60
    assert (
        graphkd.json(f"distill {data} {teacher} --store features --run one {EFFICIENT}")["images"] == 12
    )  # held out, with their labels
    assert graphkd.json(f"evaluate --model one {data}")["images"] == 60


def test_a_store_of_random_views_is_replayed(graphkd, class_folders, teacher):
    line = f"embed --data images {teacher} --views 3 --augment resized --no-flip --out crops --quiet --json"
    assert graphkd.json(line)["views"] == 3
    assert graphkd.json("store info crops")["transform"]["transform"] == "RandomResizedCropView"
    assert graphkd.json(f"distill --data images {teacher} --store crops --run one {EFFICIENT}")["updates"] == 6
    shard = next(Path("crops").glob("shard*"))
    shard.write_bytes(b"")
    assert graphkd.json("store repair crops --config crops/run.yaml --quiet --json")["embedded"] > 0


def test_first_weights_and_frozen_layers(graphkd, class_folders, teacher):
    import timm
    from safetensors.torch import save_file

    model = timm.create_model("test_efficientnet", num_classes=11)
    save_file(model.state_dict(), "first.safetensors")
    line = f"distill --data images {teacher} --init first.safetensors --freeze conv_stem,bn1,blocks.[01] --run one"
    answer = graphkd(f"{line} {EFFICIENT.replace('--quiet', '')}")
    assert any("head of other classes: classifier.weight, classifier.bias start fresh" in each for each in answer.err)
    found = student_weights("one")
    frozen = ("conv_stem", "bn1", "blocks.0", "blocks.1")
    for name, value in model.state_dict().items():
        if not name.startswith("classifier") and value.is_floating_point():
            assert torch.equal(found[f"model.{name}"], value) == name.startswith(frozen), name


def test_models_of_transformers_as_student_and_teacher(graphkd, class_folders, tmp_path):
    pytest.importorskip("transformers", reason="pip install 'graphkd[integrations]'")
    from tests.models.hf_models import small, towers

    small("vit", tmp_path / "vit", 5)
    towers("clip", tmp_path / "clip")
    for kind, method in (("clip", "prg"), ("vit", "kd")):
        line = f"distill --data images --teacher hf:{kind} --templates photo --student hf:vit --method {method}"
        graphkd(f"{line} --run by-{kind} {SMALL}")
    assert graphkd.json("evaluate --model by-clip --data images")["images"] == 60
    graphkd("export by-clip --formats safetensors,torch --out out --json")


def test_open_clips_folder(graphkd, class_folders, teacher_checkpoint, tmp_path):
    (tmp_path / "clip").mkdir()
    shutil.copy(teacher_checkpoint.with_name("config.json"), tmp_path / "clip" / "open_clip_config.json")
    shutil.copy(teacher_checkpoint, tmp_path / "clip" / "open_clip_model.safetensors")
    assert (
        graphkd.json("embed --data images --teacher local-dir:clip --templates photo --out features --quiet --json")[
            "samples"
        ]
        == 60
    )


def test_a_classifier_of_other_classes_teaches_by_its_embedding(monkeypatch):
    import timm

    from graphkd.cli import networks
    from graphkd.cli.option_groups import TeacherOptions
    from graphkd.models.tap import Tap

    own = Tap(timm.create_model("test_resnet", num_classes=7), mean=[0.5] * 3, std=[0.5] * 3)
    monkeypatch.setattr(networks, "create_student", lambda *given, **options: own)
    teaching = TeacherOptions(teacher="timm:test_resnet", pretrained="default", teacher_size=32)
    made = networks.classifier_teacher("test_resnet", teaching, ["cat", "dog"], torch.device("cpu"), (), ())
    assert made.num_classes is None
    assert made(torch.rand(2, 3, 32, 32)).embedding.shape == (2, made.embedding_dim)
