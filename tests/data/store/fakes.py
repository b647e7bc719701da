"""The smallest source, transform and teacher that a store needs; run as a script, it embeds and may kill itself."""

import hashlib
import os
import signal
import sys

import torch
from PIL import Image

from graphkd.data.store.embed import embed
from graphkd.features import Features
from graphkd.teachers.base import Teacher


class Squares:
    """Images of one colour each, drawn from their name."""

    def __init__(self, ids):
        self.ids = list(ids)
        self.classes = ["cat", "dog"]
        self.sizes = [100 + len(name) for name in self.ids]
        self.edited = ""

    def __len__(self):
        return len(self.ids)

    def image(self, index):
        colour = hashlib.sha256(self.ids[index].encode()).digest()
        return Image.new("RGB", (4, 4), tuple(colour[:3]))

    def target(self, index):
        return None

    def content_hash(self, index):
        return hashlib.sha256((self.ids[index] + self.edited).encode()).hexdigest()


def squares(n):
    return Squares([f"folder/image{i:03d}.png" for i in range(n)])


class ToTensor:
    def __init__(self, size=4):
        self.spec = {"name": "ToTensor", "size": size}

    def __call__(self, image):
        pixels = torch.tensor(list(image.tobytes()), dtype=torch.float32)
        return pixels.view(image.height, image.width, 3).permute(2, 0, 1) / 255


class TinyTeacher(Teacher):
    """A linear map of the mean colour, with or without a head."""

    def __init__(self, prompts="a photo of a {}.", head=True, kill_at=0):
        draw = torch.Generator().manual_seed(0)
        self.weight = torch.randn(3, 5, generator=draw)
        self.rows = torch.randn(2, 5, generator=draw)
        self.prompts, self.head, self.kill_at = prompts, head, kill_at
        self.embedding_dim = 5
        self.classes = ["cat", "dog"] if head else None
        self.num_classes = 2 if head else None
        self.forwards = 0

    def __call__(self, images):
        self.forwards += 1
        return super().__call__(images)

    def features(self, images):
        if self.forwards == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        embedding = images.mean((2, 3)) @ self.weight
        if not self.head:
            return Features(embedding)
        return Features(embedding, embedding @ self.rows.T, self.rows, self.rows @ self.rows.T)

    def fingerprint(self):
        return {"weights": "tiny", "prompts": self.prompts}

    def to(self, device):
        return self


def direct(teacher, source):
    """What the teacher says of all images, asked at once."""
    return teacher(torch.stack([ToTensor()(source.image(i)) for i in range(len(source))]))


def fill(path, teacher=None, source=None, **options):
    """Embed ten samples, unless told otherwise, in shards of 4, 4 and 2."""
    options = {"transform": ToTensor(), "batch_size": 2, "shard_size": 4, "progress": False, **options}
    return embed(teacher or TinyTeacher(), squares(10) if source is None else source, path, **options)


if __name__ == "__main__":
    _, folder, n, kill_at, workers = sys.argv
    fill(folder, TinyTeacher(kill_at=int(kill_at)), squares(int(n)), workers=int(workers))
