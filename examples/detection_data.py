"""Images with boxes for ``voc_crg.py``: drawn shapes, Pascal VOC, COCO.

A sample is (image [3, h, w] in [0, 1], {"boxes": [n, 4] as x1 y1 x2 y2 in pixels, "labels": [n], counted from 1}).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import ParseError

import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import CocoDetection, VOCDetection
from torchvision.transforms.functional import pil_to_tensor

from graphkd.data.decoding import decoded
from graphkd.errors import DataError
from graphkd.files import local_path
from graphkd.text import open_regular

Target = dict[str, Tensor]
Sample = tuple[Tensor, Target]
VOC_CLASSES = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
]
SHAPES = ("square", "circle", "triangle")


class DrawnShapes(Dataset[Sample]):
    """Images of 64 to 96 px a side with one to four squares, circles and triangles on noise; a pure function of seed.

    Args:
        images: how many.
        seed: of all that is random: sizes, places, colours, noise.
    """

    classes = SHAPES

    def __init__(self, images: int, seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        self.samples = [draw(g) for _ in range(images)]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def draw(g: torch.Generator) -> Sample:
    """One image; shapes that would overlap are left out."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=g))

    h, w = int(uniform(64, 97)), int(uniform(64, 97))
    image = 0.5 * torch.rand(3, h, w, generator=g) + 0.5 * torch.rand(3, 1, 1, generator=g)
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    boxes: list[list[float]] = []
    labels: list[int] = []
    for _ in range(int(uniform(1, 5))):
        radius, kind = uniform(6, 16), int(uniform(0, 3))
        cx, cy = uniform(radius, w - radius), uniform(radius, h - radius)
        box = [cx - radius, cy - radius, cx + radius, cy + radius]
        if any(_meet(box, each) for each in boxes):
            continue
        dx, dy = (x - cx) / radius, (y - cy) / radius
        square, circle = torch.maximum(dx.abs(), dy.abs()) <= 1, dx**2 + dy**2 <= 1
        triangle = square & (dx.abs() <= (dy + 1) / 2)
        mask = (square, circle, triangle)[kind]
        image[:, mask] = torch.rand(3, 1, generator=g) + 0.15 * torch.randn(3, int(mask.sum()), generator=g)
        boxes.append(box)
        labels.append(kind + 1)
    return image.clamp(0, 1), {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels)}


def _meet(a: list[float], b: list[float]) -> bool:
    return all(max(a[i], b[i]) < min(a[i + 2], b[i + 2]) for i in (0, 1))


class Voc(VOCDetection):
    """torchvision's, with images and annotations opened as the library opens them."""

    def __getitem__(self, index: int) -> tuple[Image, dict[str, Any]]:
        with open_regular(Path(self.annotations[index])) as file:
            annotation = self.parse_voc_xml(ElementTree.parse(file).getroot())
        return decoded(Path(self.images[index]), self.images[index]), annotation


class Coco(CocoDetection):
    """torchvision's, with images opened as the library opens them."""

    def _load_image(self, id: int) -> Image:
        path = Path(self.root, self.coco.loadImgs(id)[0]["file_name"])
        return decoded(path, str(path))


class Real(Dataset[Sample]):
    """Pascal VOC 2007 in ROOT/VOCdevkit, or COCO 2017 in ROOT.

    Args:
        name: ``"voc"`` or ``"coco"``, kept in ``root``; or the folder of one of them.
        root: folder of the data set.
        training: its training images, else those to score on.

    Raises: DataError where its files are not there.
    """

    images: Any
    convert: Callable[[Any], Target]

    def __init__(self, name: str, root: Path, training: bool) -> None:
        if local_path(name).is_dir():
            root = local_path(name)
            name = "coco" if (root / "annotations").is_dir() else "voc"
        if name not in ("voc", "coco"):
            raise DataError(f"there is no folder {name}: give one that holds VOCdevkit or annotations, or voc, or coco")
        try:
            self.images, self.classes, self.convert = (_voc if name == "voc" else _coco)(root, training)
        except (RuntimeError, OSError) as error:
            parts = "VOCdevkit/VOC2007 (trainval and test)" if name == "voc" else "train2017, val2017 and annotations"
            raise DataError(f"{name} is not complete in {root}: put {parts} there ({error})") from error

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        try:
            image, annotation = self.images[index]
            target = self.convert(annotation)
        except (ParseError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataError(f"the boxes of image {index} cannot be read ({error}): restore its annotation") from error
        return pil_to_tensor(image).float() / 255, target


def _voc(root: Path, training: bool) -> tuple[Any, list[str], Callable[[Any], Target]]:
    return Voc(str(root), "2007", "trainval" if training else "test"), VOC_CLASSES, voc_target


def _coco(root: Path, training: bool) -> tuple[Any, list[str], Callable[[Any], Target]]:
    split = "train2017" if training else "val2017"
    images = Coco(str(root / split), str(root / "annotations" / f"instances_{split}.json"))
    return images, [str(each) for each in range(1, 91)], coco_target


def voc_target(annotation: dict[str, Any]) -> Target:
    """VOC counts pixels from 1; objects marked as difficult are kept."""
    objects = annotation["annotation"]["object"]
    boxes = [[float(each["bndbox"][key]) - 1 for key in ("xmin", "ymin", "xmax", "ymax")] for each in objects]
    labels = [VOC_CLASSES.index(each["name"]) + 1 for each in objects]
    return {"boxes": torch.tensor(boxes).view(-1, 4), "labels": torch.tensor(labels, dtype=torch.long)}


def coco_target(objects: list[dict[str, Any]]) -> Target:
    """COCO gives x, y, width, height; crowds and empty boxes are left out."""
    kept = [each for each in objects if not each["iscrowd"] and min(each["bbox"][2:]) > 0]
    boxes = torch.tensor([each["bbox"] for each in kept], dtype=torch.float32).view(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return {"boxes": boxes, "labels": torch.tensor([each["category_id"] for each in kept], dtype=torch.long)}
