"""Small data sets in the layouts in which torchvision keeps its own: two classes, a few images a split."""

import json
import pickle
from pathlib import Path

import numpy as np
import torch
from PIL import Image

COLOUR = (10, 20, 30)  # of every pixel


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 5), COLOUR).save(path)


def text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def caltech101(root):
    for name in ("BACKGROUND_Google", "wild_cat", "yin_yang"):
        for number in range(1, 6):
            picture(root / "caltech101" / "101_ObjectCategories" / name / f"image_{number:04d}.jpg")


def cifar(root, folder, files, meta, key, names):
    (root / folder).mkdir()
    batch = {"data": np.tile(np.repeat(np.array(COLOUR, np.uint8), 1024), (4, 1)), key: [0, 1, 0, 1]}
    for name in files:
        (root / folder / name).write_bytes(pickle.dumps(batch))
    (root / folder / meta).write_bytes(pickle.dumps({names: ["aquarium_fish", "bear"]}))


def cifar10(root):
    files = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    cifar(root, "cifar-10-batches-py", files, "batches.meta", "labels", "label_names")


def cifar100(root):
    cifar(root, "cifar-100-python", ["train", "test"], "meta", "fine_labels", "fine_label_names")


def dtd(root):
    base = root / "dtd" / "dtd"
    for split in ("train", "val", "test"):
        images = [f"{name}/{name}_{split}.jpg" for name in ("banded", "polka-dotted")]
        text(base / "labels" / f"{split}1.txt", *images)
        for image in images:
            picture(base / "images" / image)


def flowers102(root):
    from scipy.io import savemat

    base = root / "flowers-102"
    for number in range(1, 7):
        picture(base / "jpg" / f"image_{number:05d}.jpg")
    savemat(base / "imagelabels.mat", {"labels": np.array([1, 2, 1, 2, 1, 2])})
    savemat(base / "setid.mat", {"trnid": np.array([1, 2]), "valid": np.array([3, 4]), "tstid": np.array([5, 6])})


def food101(root):
    base = root / "food-101"
    for split in ("train", "test"):
        images = {name: [f"{name}/{split}"] for name in ("apple_pie", "hot_dog")}
        text(base / "meta" / f"{split}.json", json.dumps(images))
        for name in images:
            picture(base / "images" / name / f"{split}.jpg")


def imagenet(root):
    names = {"n01440764": ("tench",), "n01443537": ("goldfish",)}
    torch.save((names, []), root / "meta.bin")
    for split in ("train", "val"):
        for wnid in names:
            picture(root / split / wnid / "a.JPEG")


def oxford_pets(root):
    base = root / "oxford-iiit-pet"
    for split in ("trainval", "test"):
        images = [f"{name}_{split}" for name in ("Abyssinian", "great_pyrenees")]
        text(base / "annotations" / f"{split}.txt", *(f"{image} {i} 1 1" for i, image in enumerate(images, 1)))
        for image in images:
            picture(base / "images" / f"{image}.jpg")


def stl10(root):
    base = root / "stl10_binary"
    text(base / "class_names.txt", "airplane", "bird")
    for split in ("train", "test", "unlabeled"):
        np.tile(np.array(COLOUR, np.uint8)[:, None, None], (4, 1, 96, 96)).tofile(base / f"{split}_X.bin")
        np.array([1, 2, 1, 2], np.uint8).tofile(base / f"{split}_y.bin")


def make(name: str, root: Path, monkeypatch) -> Path:
    """The tree of a data set; digests of the files, which cannot be right, are not compared."""
    for module in ("cifar", "flowers102", "stl10"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda path, md5=None: True)
    globals()[name](root)
    return root
