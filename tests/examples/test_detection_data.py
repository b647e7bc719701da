"""What the detection example trains on: drawn shapes, and VOC's and COCO's files as boxes."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import tensor
from torch.testing import assert_close

from graphkd.errors import DataError

OBJECT = "<object><name>{}</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>7</ymax></bndbox></object>"


@pytest.fixture(scope="module")
def data():
    path = Path(__file__).parents[2] / "examples" / "detection_data.py"
    spec = importlib.util.spec_from_file_location("detection_data", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shapes_depend_on_their_seed_alone(data):
    first, again, other = (data.DrawnShapes(3, seed=seed) for seed in (0, 0, 1))
    for (image, target), (same, same_target) in zip(first.samples, again.samples, strict=True):
        assert torch.equal(image, same)
        assert torch.equal(target["boxes"], same_target["boxes"])
    assert first[0][0].shape != other[0][0].shape or not torch.equal(first[0][0], other[0][0])


def test_shapes_lie_inside_their_images_and_do_not_overlap(data):
    for image, target in data.DrawnShapes(30, seed=0).samples:
        boxes, (h, w) = target["boxes"], image.shape[1:]
        assert 64 <= min(h, w) <= max(h, w) <= 96
        assert 0 <= image.min() <= image.max() <= 1
        assert len(boxes) == len(target["labels"]) >= 1
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] <= tensor([w, h])).all()
        assert set(target["labels"].tolist()) <= {1, 2, 3}
        sides = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - torch.maximum(
            boxes[:, None, :2], boxes[None, :, :2]
        )
        assert not ((sides > 0).all(-1) & ~torch.eye(len(boxes), dtype=torch.bool)).any()


def test_a_drawn_square_fills_its_box(data):
    image, target = next(
        (image, target) for image, target in data.DrawnShapes(50, seed=3).samples if target["labels"].tolist() == [1]
    )
    x1, y1, x2, y2 = (round(each) for each in target["boxes"][0].tolist())
    inside = image[:, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
    assert inside.flatten(1).std(1).max() < 0.2  # one colour with little noise


def test_pascal_voc_files(data, tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2007"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    Image.new("RGB", (12, 10)).save(root / "JPEGImages" / "000005.jpg")
    (root / "Annotations" / "000005.xml").write_text(
        f"<annotation>{OBJECT.format('dog')}{OBJECT.format('cat')}</annotation>"
    )
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("000005\n")
    voc = data.Real("voc", tmp_path, training=True)
    image, target = voc[0]
    assert image.shape == (3, 10, 12)
    assert_close(target["boxes"], tensor([[0.0, 1.0, 8.0, 6.0]]).expand(2, 4))  # VOC counts from 1
    assert [voc.classes[label - 1] for label in target["labels"]] == ["dog", "cat"]
    assert torch.equal(data.Real(str(tmp_path), Path("elsewhere"), training=True)[0][0], image)
    with pytest.raises(
        DataError, match=r"voc is not complete in .*: put VOCdevkit/VOC2007 \(trainval and test\) there"
    ):
        data.Real("voc", tmp_path, training=False)
    laughs = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    for text in (
        f'<!DOCTYPE a [<!ENTITY a0 "{"a" * 99}">{laughs}]><annotation>&a9;</annotation>',  # a billion
        '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/hostname">]><annotation>&a;</annotation>',
        "<annotation><object><name>dog</name></object></annotation>",
        "<annotation>",
    ):
        (root / "Annotations" / "000005.xml").write_text(text)
        with pytest.raises(DataError, match=r"the boxes of image 0 cannot be read .*: restore its annotation"):
            voc[0]


def test_coco_files(data, tmp_path):
    pytest.importorskip("pycocotools")
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations").mkdir()
    Image.new("L", (12, 10)).save(tmp_path / "val2017" / "1.jpg")
    objects = [
        {"id": 1, "image_id": 1, "category_id": 18, "bbox": [1, 2, 3, 4], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 18, "bbox": [1, 2, 3, 4], "iscrowd": 1},
        {"id": 3, "image_id": 1, "category_id": 18, "bbox": [1, 2, 0, 4], "iscrowd": 0},
    ]
    images = [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "1.jpg"}]
    found = {"images": images, "annotations": objects, "categories": [{"id": 18, "name": "dog"}]}
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(found))
    coco = data.Real("coco", tmp_path, training=False)
    image, target = coco[0]
    assert image.shape == (3, 10, 12)
    assert_close(target["boxes"], tensor([[1.0, 2.0, 4.0, 6.0]]))
    assert target["labels"].tolist() == [18]
    assert coco[1][1]["boxes"].shape == (0, 4)
    assert torch.equal(data.Real(str(tmp_path), Path("elsewhere"), training=False)[0][0], image)
    with pytest.raises(DataError, match=r"coco is not complete in .*: put train2017, val2017 and annotations there"):
        data.Real("coco", tmp_path, training=True)


def test_neither_a_folder_nor_a_data_set(data, tmp_path):
    with pytest.raises(DataError, match="there is no folder voc2012: give one that holds VOCdevkit or annotations"):
        data.Real("voc2012", tmp_path, training=True)
