"""A source of blank images and a teacher of random features: what stores and steps are timed on."""

import hashlib
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from graphkd import ClassifierTeacher, EmbeddingStore, Features, Tap, embed
from graphkd.teachers.base import Teacher

CLASSES, WIDTH, PROMPTS, SCALE = 100, 512, 18, 100.0


class Blanks:
    """Images of one pixel, so that a store's rate is the store's."""

    def __init__(self, samples: int) -> None:
        self.ids, self.classes = [f"{i:07d}" for i in range(samples)], None
        self.sizes = [3] * samples

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Image.Image:
        return Image.new("RGB", (1, 1))

    def target(self, index: int) -> int | None:
        return None

    def content_hash(self, index: int) -> str:
        return hashlib.sha256(self.ids[index].encode()).hexdigest()


class Pixel:
    """The transform of a blank image."""

    spec = {"name": "pixel"}  # noqa: RUF012

    def __call__(self, image: Image.Image) -> Tensor:
        return torch.zeros(3, 1, 1)


class RandomTeacher(Teacher):
    """Unit embeddings and class texts at random."""

    def __init__(self) -> None:
        self.embedding_dim, self.num_classes, self.classes = WIDTH, CLASSES, [str(i) for i in range(CLASSES)]
        self.draw = torch.Generator().manual_seed(0)
        self.texts = normalize(torch.randn(CLASSES, WIDTH, generator=self.draw), dim=1)

    def features(self, images: Tensor) -> Features:
        x = normalize(torch.randn(len(images), WIDTH, generator=self.draw), dim=1)
        return Features(x, SCALE * x @ self.texts.T, self.texts, SCALE * self.texts @ self.texts.T)

    def fingerprint(self) -> dict[str, str]:
        return {"weights": "random"}

    def to(self, device: torch.device | str) -> "RandomTeacher":
        return self


def store(folder: Path, samples: int) -> EmbeddingStore:
    """A store of random features."""
    return embed(
        RandomTeacher(), Blanks(samples), folder, transform=Pixel(), batch_size=256, shard_size=1024, progress=False
    )


def prompt_texts() -> Tensor:
    """Text embeddings of every prompt and class, (18, 100, 512)."""
    draw = torch.Generator().manual_seed(1)
    return normalize(torch.randn(PROMPTS, CLASSES, WIDTH, generator=draw), dim=-1)


def cifar_resnet18() -> Tap:
    """ResNet-18 with the stem for 32 x 32 images."""
    from torchvision.models import resnet18

    model = resnet18(num_classes=CLASSES)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return Tap(model)


def live_teacher(device: str) -> ClassifierTeacher:
    """A ResNet-50 at 224 x 224 without trained weights: it costs what a trained one costs."""
    from torchvision.models import resnet50

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return ClassifierTeacher(resnet50(num_classes=CLASSES), mean=mean, std=std, image_size=224, device=device)
