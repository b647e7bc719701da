"""How fast a machine trains: each part measured alone, and what they make together."""

import pytest
import torch
from PIL import Image

from graphkd.data.folders import open_folder
from graphkd.errors import DataError, OptionError
from graphkd.training import speed
from graphkd.training.speed import IMAGENET, Speed, made_photos, measure_speed

RATES = {
    "decode": 200.0, "student_view": 400.0, "teacher_view": 100.0, "store": 1000.0, "teacher": 20.0, "step": 50.0,
    "processes": 2, "batch_size": 32, "file_bytes": 1,
}  # fmt: skip
SMALL = {"student": "test_resnet", "teacher": "timm:test_vit", "size": 32, "batch_size": 4, "seconds": 1e-3}


def test_seconds_of_an_image_by_hand():
    found = Speed(device="cpu", **RATES)
    assert found.seconds() == {
        "decoding": 1 / 400, "the transforms": 1 / 800, "the store": 1 / 1000, "the training step": 1 / 50,
    }  # fmt: skip
    assert found.seconds(live=True)["the transforms"] == pytest.approx(1 / 800 + 1 / 200)
    assert found.seconds(live=True)["the teacher"] == 1 / 20


def test_on_a_cpu_the_parts_take_turns():
    found = Speed(device="cpu", **RATES)
    assert found.images_per_second() == pytest.approx(1 / (0.0025 + 0.00125 + 0.001 + 0.02))
    assert found.hours(live=True) == pytest.approx(IMAGENET / 3600 * (0.0025 + 0.00625 + 0.05 + 0.02))
    assert found.limit() == "the training step"
    assert found.limit(live=True) == "the teacher"


def test_on_a_gpu_images_are_loaded_meanwhile():
    fast = RATES | {"teacher": 4000.0, "step": 1000.0}
    loading, computing = Speed(device="cuda:0", **fast), Speed(device="cuda:0", **fast | {"processes": 16})
    assert loading.images_per_second() == pytest.approx(1 / 0.00375)
    assert loading.limit() == "decoding"
    assert loading.limit(live=True) == "the transforms"
    assert computing.images_per_second() == pytest.approx(500)
    assert computing.hours(3_600_000) == pytest.approx(2)
    assert computing.limit(live=True) == "the training step"


def test_every_part_is_measured_and_unreadable_images_are_named(tmp_path):
    for number in range(3):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    images, said = open_folder(tmp_path, layout="flat"), []
    found = measure_speed(images, method="rkd", say=said.append, **SMALL | {"seconds": 0.1})
    assert min(found.decode, found.student_view, found.teacher_view, found.store, found.teacher, found.step) > 0
    assert found.unreadable == ("bad.png",)
    assert 0 < found.file_bytes < 1000
    assert found.device == "cpu"
    assert said[-1] == "training test_resnet by rkd"


@pytest.mark.parametrize(("name", "width"), [
    ("coca_ViT-B-32", 512), ("timm:test_vit", 64), ("torchvision:resnet18", 512), ("lite0", 1280),
])  # fmt: skip
def test_a_teacher_has_the_names_that_it_has_for_distillation(name, width):
    found = speed._teacher(name, torch.device("cpu"))
    assert (found.embedding_dim, found.num_classes) == (width, 1000)


def test_made_photos_are_as_large_as_imagenets(tmp_path):
    source = made_photos(tmp_path / "photos", 2)
    for index in range(2):
        image = source.image(index)
        assert min(image.size) >= 256
        assert max(image.size) <= 500
        assert (
            4 < 8 * source.sizes[index] / (image.width * image.height) < 6
        )  # bits a pixel; ImageNet: 4.8, 108 kB at 469 x 387


def test_what_cannot_be_measured_is_refused(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot read image"):
        measure_speed(open_folder(tmp_path, layout="flat"), **SMALL)
    for method in ("at", "crg"):
        with pytest.raises(OptionError, match=f"{method} needs more .*: choose a method that compares embeddings or"):
            measure_speed(method=method, **SMALL)
    with pytest.raises(OptionError, match="batch_size >= 2"):
        measure_speed(batch_size=1)
