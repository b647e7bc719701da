"""How fast this machine reads images, asks a teacher and trains a student, each measured alone."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from graphkd.data.folders import open_folder
from graphkd.data.sources import ArraySource, FileSource, ImageSource
from graphkd.data.store.embed import embed
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.transforms import CenterView, RandomResizedCropView, Transform, network_view
from graphkd.distillers.factory import create_distiller, distillers
from graphkd.errors import DataError, MissingFeatureError, OptionError
from graphkd.features import Features
from graphkd.models.installed import listed_network
from graphkd.models.students import create_student
from graphkd.models.tap import Tap
from graphkd.teachers.base import Precision, Teacher
from graphkd.teachers.classifier import ClassifierTeacher
from graphkd.training.config import METHOD
from graphkd.training.devices import processors
from graphkd.typing import Tensor

IMAGENET = 1_281_167  # images of ImageNet-1k to train on
_CLASSES = 1000
_STORED = 1024  # images of the store that is read
_LEAST = 16  # images that are read, however long it takes
_HOPELESS = 100  # images that cannot be read, before one that can
_BATCH, _SMALL = 256, 32  # images of a step; on a CPU
_OCTAVES = ((64, 60.0), (16, 45.0), (4, 30.0), (1, 13.0))  # pixels of a patch of made photos, and its contrast


@dataclass(frozen=True)
class Speed:
    """Images a second of each part of training, measured alone.

    Args:
        decode: a file to pixels, one process.
        student_view: a random crop of them at the student's size, one process.
        teacher_view: the teacher's own preprocessing, one process.
        store: a teacher's features of images at random, read from a store.
        teacher: the same, asked from the network.
        step: forward pass, loss, gradients and update of the student.
        processes: that load images.
        device: where teacher and student ran.
        batch_size: images of a step.
        file_bytes: of an image that was decoded, on average.
        unreadable: names of images that could not be decoded.
    """

    decode: float
    student_view: float
    teacher_view: float
    store: float
    teacher: float
    step: float
    processes: int
    device: str
    batch_size: int
    file_bytes: int
    unreadable: tuple[str, ...] = ()

    def seconds(self, live: bool = False) -> dict[str, float]:
        """Seconds an image takes, by part.

        Args:
            live: the teacher is asked in each epoch, and needs a view of its own; else a store is read.
        """
        views = 1 / self.student_view + (1 / self.teacher_view if live else 0.0)
        asked = {"the teacher": 1 / self.teacher} if live else {"the store": 1 / self.store}
        loading = {"decoding": 1 / self.decode / self.processes, "the transforms": views / self.processes}
        return {**loading, **asked, "the training step": 1 / self.step}

    def images_per_second(self, live: bool = False) -> float:
        """Of training: on a GPU images are loaded meanwhile; on a CPU all parts share the same processors."""
        return 1 / sum(self._shares(live).values())

    def limit(self, live: bool = False) -> str:
        """The part that takes longest."""
        shares = self._shares(live)
        return max(shares, key=shares.__getitem__)

    def hours(self, images: int = IMAGENET, live: bool = False) -> float:
        """Of an epoch over so many images; default ImageNet-1k."""
        return images / self.images_per_second(live) / 3600

    def _shares(self, live: bool) -> dict[str, float]:
        """The parts that nothing else hides."""
        every = self.seconds(live)
        if torch.device(self.device).type == "cpu":
            return every
        loading = {name: every.pop(name) for name in ("decoding", "the transforms")}
        return max(loading, every, key=lambda parts: sum(parts.values()))


def measure_speed(
    source: ImageSource | None = None,
    *,
    student: str = "resnet18",
    method: str = METHOD,
    teacher: str = "timm:vit_base_patch32_clip_224",
    size: int = 224,
    batch_size: int | None = None,
    processes: int | None = None,
    device: torch.device | str = "cpu",
    seconds: float = 3.0,
    say: Callable[[str], object] = lambda text: None,
) -> Speed:
    """Measure every part of training on this machine, on random weights: those of a trained network are as fast.

    Args:
        source: images to decode; default JPEG files of 256 to 500 pixels, about as large as ImageNet's, made for it.
        student: network of timm or torchvision, with 1,000 classes.
        method: that compares embeddings or class scores.
        teacher: of open_clip (``"ViT-B-32"``), ``"timm:NAME"``, ``"torchvision:NAME"``, ``"lite0"`` or ``"lite2"``; the
            default is the image tower of CLIP's ViT-B/32.
        size: side of the student's images, pixels.
        batch_size: images of a step; default 32 on a CPU, 256 elsewhere.
        processes: that would load images; default one for each processor.
        device: where teacher and student run: in float32 on a CPU, else in 16 bits.
        seconds: for each part; one step that takes longer is measured whole.
        say: takes a line before each part.

    Raises: UnknownNameError; OptionError for a method that needs more; DataError if no image can be read.
    Example: ``measure_speed(open_folder("photos", layout="flat")).hours(live=True)``
    """
    device = torch.device(device)
    batch = batch_size or (_SMALL if device.type == "cpu" else _BATCH)
    if batch < 2 or not seconds > 0:
        raise OptionError(f"expected batch_size >= 2 and seconds > 0, found {batch_size} and {seconds}")
    with TemporaryDirectory() as place, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        say(f"building {teacher} and {student}")
        asked, learner = _teacher(teacher, device), create_student(student, _CLASSES).to(device)
        shown = torch.rand(batch, 3, *(asked.preprocess.size or (224, 224)), device=device)
        store = _store(Path(place) / "store", asked(shown[:1]))
        update = _update(learner, method, store, torch.rand(batch, 3, size, size, device=device))
        say("reading images")
        images = made_photos(Path(place) / "photos") if source is None else source
        reading = _reading(images, RandomResizedCropView(size), network_view(asked.preprocess), seconds)
        say("reading a store")
        drawn = torch.randint(len(store), (64, batch))
        remembering = _rate(lambda: sum(len(store[each].tensor("embedding", "a step")) for each in drawn), seconds)
        say(f"asking {teacher}")
        asking = _rate(lambda: len(asked(shown).tensor("embedding", "a step")), seconds, device)
        say(f"training {student} by {method}")
        learning = _rate(update, seconds, device)
    rates, file_bytes, unreadable = reading
    used = processes or processors(), str(device), batch
    return Speed(*rates, remembering, asking, learning, *used, file_bytes, unreadable)


def made_photos(folder: Path, count: int = 32) -> ImageSource:
    """JPEG files of 256 to 500 pixels a side: patches and noise, drawn from torch's global generator.

    Args:
        folder: that gets them; made if it is absent.
        count: of files.

    Example: ``made_photos(Path("photos"))``
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        height, width = torch.randint(256, 501, (2,)).tolist()
        pixels = torch.full((1, 3, height, width), 127.0)
        for patch, contrast in _OCTAVES:
            coarse = torch.randn(1, 3, -(-height // patch), -(-width // patch))
            pixels += contrast * interpolate(coarse, (height, width), mode="bilinear")
        array = pixels[0].clamp(0, 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(array).save(folder / f"{number:04d}.jpg", quality=92)
    return open_folder(folder, layout="flat")


def _reading(
    source: ImageSource, student: Transform, teacher: Transform, seconds: float
) -> tuple[tuple[float, float, float], int, tuple[str, ...]]:
    """Images a second decoded and shown to each network by one thread; bytes of an image; names of unreadable ones."""
    spent, size, done, bad = [0.0, 0.0, 0.0], 0, 0, set[str]()
    with _one_thread():
        for index in cycle(torch.randperm(len(source)).tolist()):
            moments = [time.perf_counter()]
            try:
                image = source.image(index)
            except DataError:
                bad.add(source.ids[index])
                if not done and len(bad) == min(len(source), _HOPELESS):
                    raise
                continue
            for view in (None, student, teacher):
                if view is not None:
                    view(image)
                moments.append(time.perf_counter())
            spent = [total + after - before for total, (before, after) in zip(spent, pairwise(moments), strict=True)]
            size, done = size + _bytes(source, index), done + 1
            if sum(spent) >= seconds and done + len(bad) >= min(len(source), _LEAST):
                break
    decode, first, second = (done / each for each in spent)
    return (decode, first, second), size // done, tuple(sorted(bad))


def _bytes(source: ImageSource, index: int) -> int:
    """Of one sample; a folder would ask the disk about all of its files."""
    if isinstance(source, FileSource):
        return (source.root / source.ids[index]).stat().st_size
    return source.sizes[index]


@contextmanager
def _one_thread() -> Iterator[None]:
    """What a process that loads images has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rate(call: Callable[[], int], seconds: float, device: torch.device | None = None) -> float:
    """Images a second over as many calls as fit into the time, after one that is not counted.

    Args:
        call: returns how many images it handled.
        seconds: no further call begins after these.
        device: to wait for.
    """
    done, start = 0, 0.0
    while not done or time.perf_counter() - start < seconds:
        count = call()
        if device is not None and device.type != "cpu":
            torch.accelerator.synchronize(device)
        done, start = (done + count, start) if start else (0, time.perf_counter())
    return done / (time.perf_counter() - start)


def _teacher(name: str, device: torch.device) -> ClassifierTeacher:
    precision: Precision = "fp32" if device.type == "cpu" else "fp16"
    network = listed_network(name)
    if network is None:
        from graphkd.teachers.openclip import untrained_tower  # seconds: open_clip is imported by whoever uses it

        model, view = untrained_tower(name, _CLASSES)
        return ClassifierTeacher(model, **view, precision=precision, device=device)
    tap = create_student(network, _CLASSES)
    mean, std = (None if each is None else each.flatten().tolist() for each in (tap.mean, tap.std))
    return ClassifierTeacher(tap.model, mean=mean, std=std, precision=precision, device=device)


class _Repeated(Teacher):
    """Answers every image alike: the time to fill a store is not that of a network."""

    def __init__(self, answer: Features) -> None:
        self.answer, self.classes = answer.to("cpu"), None
        self.embedding_dim, self.num_classes = answer.tensor("embedding", "a store").shape[1], _CLASSES

    def features(self, images: Tensor) -> Features:
        """The answer, once for each image."""
        embedding, logits = (self.answer.tensor(part, "a store") for part in ("embedding", "logits"))
        count = len(images)
        return replace(self.answer, embedding=embedding.expand(count, -1), logits=logits.expand(count, -1))

    def fingerprint(self) -> dict[str, str]:
        """It has no weights."""
        return {"weights": "none"}

    def to(self, device: torch.device | str) -> Self:
        """It stays on the CPU."""
        return self


def _store(folder: Path, answer: Features) -> EmbeddingStore:
    """A store of answers of a teacher's widths, on blank images."""
    blank = ArraySource(np.zeros((_STORED, 1, 1, 3), np.uint8))
    return embed(
        *(_Repeated(answer), blank, folder),
        transform=CenterView(1),
        batch_size=512,
        dtype="float16",
        progress=False,
        rank=0,
        world=1,
    )


def _update(student: Tap, method: str, store: EmbeddingStore, images: Tensor) -> Callable[[], int]:
    """What makes one update on images, tried on two of them; returns their number.

    Raises: OptionError for a method that compares more than a store keeps.
    """
    device, index = images.device, torch.arange(len(images)) % len(store)
    answer, target = store[index].to(device), (index % _CLASSES).to(device)
    samples = {"num_samples": len(store)} if "num_samples" in distillers().get(method).sized_by else {}
    with _enough(method):
        distiller = create_distiller(method, student, store, **samples).to(device)
    optimizer = torch.optim.AdamW([*student.parameters(), *distiller.parameters()])

    def update(count: int = len(images)) -> int:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
            seen, beside = student(images[:count]), {"target": target[:count], "index": index[:count]}
            losses = distiller(seen, answer.rows(slice(count)), **beside)
        losses.total.backward()
        optimizer.step()
        return count

    with _enough(method):
        update(2)
    return update


@contextmanager
def _enough(method: str) -> Iterator[None]:
    """Inside, a method that lacks something is refused."""
    try:
        yield
    except (MissingFeatureError, OptionError) as error:
        what = f"{method} needs more than a store keeps, or options of its own"
        raise OptionError(f"{what}: choose a method that compares embeddings or class scores, such as prg") from error
