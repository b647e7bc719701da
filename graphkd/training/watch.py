"""A few images that are watched all through a run: what both networks say of them, written and read again."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import interpolate

from graphkd.data.views import Batch, Views
from graphkd.errors import CheckpointError, MissingFeatureError, OptionError
from graphkd.features import Features
from graphkd.files import local_path, remove_leftovers, write_file, write_json
from graphkd.graphs import relations
from graphkd.graphs.edges import Edges
from graphkd.graphs.spectral import decomposed
from graphkd.text import read_json, regular_size
from graphkd.training.metrics import evaluating
from graphkd.typing import Float, Int, Tensor

FOLDER = "watched"
ABOUT, IMAGES, TEACHER, SPECTRUM = "about.json", "images.safetensors", "teacher.safetensors", "spectrum:"
_STUDENT = re.compile(r"student-([0-9]{5,9})\.safetensors")
_PARTS = "embedding", "logits", "proxies"
_THUMBNAIL, _BATCH = 48, 64  # pixels of a side; images a forward pass
_SPECTRA, _CHANNELS = 8, 512  # images whose channel graphs are decomposed, where there are at most so many channels


@dataclass(frozen=True)
class Snapshot:
    """What one network said of the watched images, at one time.

    Args:
        embedding, logits, proxies: as of :class:`~graphkd.features.Features`.
        spectra: eigenvalues of the channel graphs of some of the images, ascending, by name of the map.

    Shapes: embedding (n, d), logits (n, c), proxies (c, d), spectra (b, channels).
    """

    embedding: Float[Tensor, "n d"]
    logits: Float[Tensor, "n c"] | None
    proxies: Float[Tensor, "c d"] | None
    spectra: Mapping[str, Float[Tensor, "b c"]]


@dataclass(frozen=True)
class Watched:
    """The watched images of a run, as its folder holds them.

    Args:
        ids: names of the images.
        classes: names of the classes, where there are any.
        labels: of the images, where they were handed out.
        images: thumbnails.
        teacher: what the teacher said.
        student: what the student said, by epochs done, ascending.

    Shapes: labels (n,), images (n, 3, h, w) of uint8.
    """

    ids: list[str]
    classes: list[str] | None
    labels: Int[Tensor, " n"] | None
    images: Int[Tensor, "n 3 h w"]
    teacher: Snapshot | None
    student: Mapping[int, Snapshot]

    @classmethod
    def read(cls, run: Path) -> "Watched | None":
        """Of a run folder; ``None`` where nothing was watched. Raises: CheckpointError for damaged files."""
        folder = local_path(run) / FOLDER
        if not (folder / ABOUT).is_file():
            return None
        try:
            about = read_json(folder / ABOUT)
            ids, classes = _texts(about["ids"]), about["classes"] and _texts(about["classes"])
            labels = None if about["labels"] is None else _labels(about["labels"], classes)
            images = _load(folder / IMAGES)["images"]
            sizes = {len(ids), len(images), len(ids if labels is None else labels)}
            if len(sizes) > 1 or images.ndim != 4 or images.dtype != torch.uint8:
                raise ValueError("names, labels and images do not fit together")
            snapshots = {epoch: _snapshot(path, len(ids)) for epoch, path in student_files(folder).items()}
            teacher = _snapshot(folder / TEACHER, len(ids)) if (folder / TEACHER).is_file() else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder} is damaged ({error}): remove it, or watch the run again") from error
        return cls(ids, classes, labels, images, teacher, snapshots)


def _load(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        regular_size(path)
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _snapshot(path: Path, count: int) -> Snapshot:
    found = _load(path)
    spectra = {name.removeprefix(SPECTRUM): value for name, value in found.items() if name.startswith(SPECTRUM)}
    rows = [found[name] for name in ("embedding", "logits") if name == "embedding" or name in found]
    if any(each.ndim != 2 for each in found.values()) or any(
        len(each) != count or not each.is_floating_point() for each in rows
    ):
        raise ValueError(f"{path.name} does not hold matrices with {count} rows")
    return Snapshot(found["embedding"], found.get("logits"), found.get("proxies"), spectra)


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise ValueError("expected a list of names")
    return values


def _labels(values: Any, classes: list[str] | None) -> Int[Tensor, " n"]:
    most = len(classes) if classes else 2**31
    if not isinstance(values, list) or not all(type(each) is int and 0 <= each < most for each in values):
        raise ValueError("there are labels without a class")
    return torch.tensor(values, dtype=torch.int64)


def student_files(folder: Path) -> dict[int, Path]:
    """What the student said, by epochs done, ascending: the files of the folder that are named so."""
    found = ((_STUDENT.fullmatch(path.name), path) for path in folder.glob("student-*"))
    return dict(sorted((int(match[1]), path) for match, path in found if match))


@dataclass(frozen=True)
class Watch:
    """Images to look at during a run, before its first epoch and at some of the later ones.

    What is found lies in ``watched/`` of the run folder, as safetensors and JSON, and is what pictures and reports are
    made of. Looking changes no bit of the run.

    Args:
        views: plain views without augmentation. Their labels, if they hand any out, only order and colour pictures.
        teacher: its features of a batch of these views, live or from a store; ``None`` for the student alone.
        images: most images, spread evenly over the views, >= 1; default 200.
        times: most snapshots, >= 2; default 11.

    Raises: OptionError.

    Example: ``Trainer(step, views, features, config, "runs/one", watch=Watch(plain_views, features))``
    """

    views: Views
    teacher: Callable[[Batch], Features] | None = None
    images: int = 200
    times: int = 11

    def __post_init__(self) -> None:
        for name, least in (("images", 1), ("times", 2)):
            if getattr(self, name) < least:
                raise OptionError(f"{name} must be >= {least}, found {getattr(self, name)}")

    @property
    def indices(self) -> list[int]:
        """Positions of the images among the views."""
        count = len(self.views)
        shown = min(count, self.images)
        return [position * count // shown for position in range(shown)]

    def batches(self) -> Iterator[Batch]:
        """The images, always in the same order."""
        indices = self.indices
        for start in range(0, len(indices), _BATCH):
            yield self.views.collate([self.views[index] for index in indices[start : start + _BATCH]])


class Snapshots:
    """The snapshots of one run.

    Args:
        watch: what to look at; ``None`` for nothing.
        run: the run folder.
        epochs: of the run.
        accelerator: whose main process takes them, on its device and in its precision.
    """

    def __init__(self, watch: Watch | None, run: Path, epochs: int, accelerator: Any) -> None:
        self.watch = watch if accelerator.is_main_process else None  # the others only help to gather a sharded student
        self.folder, self.accelerator = run / FOLDER, accelerator
        times = 0 if watch is None else min(watch.times - 1, epochs)
        self.due = {round(number * epochs / times) for number in range(times + 1)} if times else set()

    def at(self, model: Callable[[], Any], epoch: int) -> None:
        """Take one where it is due: ``epoch`` epochs are done, and ``model`` gives the student.

        Raises: MissingFeatureError for a student whose output is no Features with an embedding.
        """
        if epoch not in self.due:
            return
        student = model()
        if self.watch is None:
            return
        if epoch == 0 or not (self.folder / ABOUT).is_file():
            self._begin(self.watch)
        for done, path in student_files(self.folder).items():
            if done > epoch:  # of a run that was interrupted after this epoch
                path.unlink()
        with evaluating(student), self.accelerator.autocast():
            found = [student(batch.to(self.accelerator.device).student) for batch in self.watch.batches()]
        _save(self.folder / f"student-{epoch:05d}.safetensors", _joined(found))

    def _begin(self, watch: Watch) -> None:
        """What does not change: names, thumbnails, the teacher's answers."""
        batches = list(watch.batches())
        images = torch.cat([_thumbnails(batch.student) for batch in batches])
        _save(self.folder / IMAGES, {"images": images})
        if watch.teacher is not None:
            with torch.no_grad():
                given = [watch.teacher(batch.to(self.accelerator.device)) for batch in batches]
            _save(self.folder / TEACHER, _joined(given))
        source = watch.views.source
        labels = [int(label) for batch in batches for label in (() if batch.target is None else batch.target)]
        classes = None if source.classes is None else list(source.classes)
        ids = [str(source.ids[index]) for index in watch.indices]
        write_json(self.folder / ABOUT, {"classes": classes, "ids": ids, "labels": labels or None})


def channel_spectrum(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
    """Eigenvalues, ascending, of the Laplacian of each image's channel graph (Pearson's correlation); NaN of NaN."""
    nodes = maps.detach().float().cpu().flatten(2)
    return decomposed(torch.linalg.eigvalsh, Edges(nodes, nodes, relations.pearson).laplacian())[0]


def _joined(found: list[Any]) -> dict[str, Tensor]:
    """The parts that are kept, of all batches."""
    if not all(isinstance(each, Features) for each in found):
        raise MissingFeatureError("watching needs a network that gives Features: wrap it in Tap, or leave watch out")
    _ = [each.tensor("embedding", "watching") for each in found]
    whole = Features.joined([Features(each.embedding, each.logits, each.proxies) for each in found])
    parts = {name: getattr(whole, name) for name in _PARTS}
    parts |= {SPECTRUM + name: channel_spectrum(some) for name, some in _some_maps(found[0])}
    return {name: value.detach().float().cpu().contiguous() for name, value in parts.items() if value is not None}


def _some_maps(features: Features) -> Iterator[tuple[str, Tensor]]:
    """The first images' maps: fewer where there are many channels, for eigenvalues cost their cube."""
    for name, maps in (features.maps or {}).items():
        count = max(1, int(_SPECTRA * min(1.0, (_CHANNELS / maps.shape[1]) ** 3)))
        yield name, maps[:count]


def _thumbnails(images: Float[Tensor, "b 3 h w"]) -> Tensor:
    most = max(images.shape[2:])
    if most > _THUMBNAIL:
        images = interpolate(images, scale_factor=_THUMBNAIL / most, mode="bilinear", antialias=True)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    remove_leftovers(path.parent, path.name)
    write_file(path, save(tensors))
