"""The pictures of a run folder, section by section; a section says why a picture is absent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch

from graphkd.errors import GraphKDError, MissingFeatureError
from graphkd.files import local_path
from graphkd.graphs import relations
from graphkd.graphs.edges import NORMALISERS, Edges
from graphkd.pictures.canvas import drawn, finite
from graphkd.pictures.confusion import draw_confusion
from graphkd.pictures.curves import draw_curves
from graphkd.pictures.embeddings import Plane, draw_embeddings
from graphkd.pictures.facts import Facts
from graphkd.pictures.proxy_graph import draw_proxy_graph
from graphkd.pictures.relations import draw_relations
from graphkd.pictures.spectra import draw_spectra
from graphkd.training.watch import Snapshot, Watched
from graphkd.typing import Int, Tensor

_By: TypeAlias = tuple[Int[Tensor, " n"] | None, list[str] | None]  # classes of the images, and their names
_CONFUSED = 100  # classes up to which the confusion is drawn
_TEXTS = {  # what each section shows and how to read it
    "curves": "Every loss term with its weight inside, as the training log has it.",
    "relations": "Cosines between the images as teacher and student see them. A student that has learnt the teacher's "
    "graph shows the same blocks, and its difference is pale.",
    "graph": "The strongest edges between images and class proxies (cosine, each image's mean subtracted). Proxies "
    "stand at the same places for both networks.",
    "spectra": "Eigenvalues of the Laplacians: small ones tell groups that hardly touch, one for each group.",
    "embeddings": "The student's embedding at several epochs in one plane, the two principal components of the last "
    "one, and the teacher's in a plane of its own. Stars are class proxies.",
    "classes": "The latest scoring on held-out images, class by class.",
}


@dataclass(frozen=True)
class Picture:
    """One picture.

    Args:
        name: of its file, without a suffix.
        caption: what it shows.
        figure: a ``matplotlib.figure.Figure``.
        moment: whether it is one of several times, of which one is shown at once.
    """

    name: str
    caption: str
    figure: Any
    moment: bool = False


@dataclass
class Section:
    """Pictures of one kind.

    Args:
        key: short name, which is the heading too.
        text: what is shown and how to read it.
        pictures: in order.
        absent: why there are fewer than there could be.
    """

    key: str
    text: str
    pictures: list[Picture] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    def add(self, name: str, caption: str, draw: Callable[[], Any], moment: bool = False) -> None:
        """Draw one; where it cannot be drawn, keep the reason."""
        try:
            self.pictures.append(Picture(name, caption, draw(), moment))
        except GraphKDError as error:
            self.absent.append(f"{caption}: {error}")


def gallery(run: Path | str, seed: int = 0) -> list[Section]:
    """All pictures of a run, finished or not, from its folder alone.

    Args:
        run: the folder.
        seed: of the layout of graphs.

    Raises: CheckpointError for a folder whose files are damaged.
    Example: ``[picture.name for section in gallery("runs/photos-1") for picture in section.pictures]``
    """
    facts, watched = Facts.read(local_path(run)), Watched.read(local_path(run))
    sections = [Section(key, text) for key, text in _TEXTS.items()]
    curves, *of_watched, classes = sections
    title = "Loss terms, accuracy and learning rate"
    curves.add("curves", title, lambda: draw_curves(facts.lines, facts.teacher_top1))
    if watched is None or not watched.student:
        for section in of_watched:
            section.absent.append("the run watched no images: graphkd distill --watch 200, or Trainer(..., watch=...)")
    else:
        relation, graph, spectra, embeddings = of_watched
        last = watched.student[max(watched.student)]
        by = _labels(watched, last)
        _relations(relation, watched.teacher, last, by)
        _graph(graph, watched, last, by, seed)
        _spectra(spectra, watched.teacher, last)
        _embeddings(embeddings, watched, by)
    _classes(classes, facts, watched)
    return sections


@drawn
def log_pictures(trackers: Sequence[Any], pictures: Sequence[Picture], update: int) -> int:
    """Show pictures in TensorBoard, through the trackers that a run has anyway.

    Args:
        trackers: of an ``accelerate.Accelerator``, open or finished; those that are not TensorBoard's are passed over.
        pictures: shown as ``pictures/<name>``.
        update: the step that they belong to.

    Returns: how many were written.
    Example: ``log_pictures(trainer.accelerator.trackers, section.pictures, result.updates)``
    """
    writers = [each.writer for each in trackers if each.name == "tensorboard"]
    for writer in writers:
        for picture in pictures:
            writer.add_figure(f"pictures/{picture.name}", picture.figure, update, close=False)
        writer.close()
    return len(writers) * len(pictures)


def _labels(watched: Watched, last: Snapshot) -> _By:
    """Classes that order and colour the pictures: labels, else the teacher's predictions, else the student's."""
    if watched.labels is not None:
        return watched.labels, watched.classes
    for look in (watched.teacher, last):
        if look is not None and look.logits is not None:
            fits = watched.classes is not None and look.logits.shape[1] == len(watched.classes)
            return look.logits.argmax(1), watched.classes if fits else None
    return None, None


def _cosines(look: Snapshot) -> Tensor:
    return Edges(look.embedding, look.embedding, relations.cosine, name="cosine").dense()


def _to_classes(look: Snapshot) -> Tensor:
    assert look.proxies is not None
    return Edges(look.embedding, look.proxies, relations.cosine, NORMALISERS.get("center"), name="cosine").dense()


def _relations(section: Section, teacher: Snapshot | None, student: Snapshot, by: _By) -> None:
    if teacher is None:
        section.absent.append("the run had no teacher")
        return

    def to_proxies() -> Any:
        if teacher.proxies is None or student.proxies is None:
            raise MissingFeatureError("teacher and student need class proxies both")
        sides = _to_classes(teacher), _to_classes(student)
        return draw_relations(*sides, *by, columns="class", relation="cosine, row mean subtracted")

    section.add("relations", "Image to image", lambda: draw_relations(_cosines(teacher), _cosines(student), *by))
    section.add("relations-proxies", "Image to class proxy", to_proxies)


def _graph(section: Section, watched: Watched, last: Snapshot, by: _By, seed: int) -> None:
    looks = {name: look for name, look in (("teacher", watched.teacher), ("student", last)) if look is not None}
    edges = {name: _to_classes(look) for name, look in looks.items() if look.proxies is not None}
    section.absent += [f"the {name} has no class proxies" for name in looks if name not in edges]
    if edges:
        draw = lambda: draw_proxy_graph(edges, watched.images, *by, seed=seed)  # noqa: E731
        section.add("graph", "Images and class proxies", draw)


def _spectra(section: Section, teacher: Snapshot | None, student: Snapshot) -> None:
    def samples(look: Snapshot) -> dict[str, Tensor]:
        x = finite("embedding", look.embedding)
        return {"images": torch.linalg.eigvalsh(Edges(x, x, relations.cosine).laplacian())[None]}

    def draw() -> Any:
        return draw_spectra(samples(student), None if teacher is None else samples(teacher))

    section.add("spectrum-samples", "Graph of the images (cosine)", draw)
    maps = student.spectra, None if teacher is None else teacher.spectra
    if maps[0] or maps[1]:
        title = "Graphs of the channels, level by level (Pearson's correlation)"
        section.add("spectra-channels", title, lambda: draw_spectra(*maps))
    else:
        section.absent.append("no channel spectra: the method compared no maps (--student-maps, --teacher-maps)")


def _embeddings(section: Section, watched: Watched, by: _By) -> None:
    student = watched.student
    all_of = [value for each in student.values() for value in (each.embedding, each.proxies) if value is not None]

    def add(name: str, title: str, look: Snapshot, plane: Plane | None = None) -> None:
        proxies = None if look.proxies is None else {title: look.proxies}
        draw = lambda: draw_embeddings({title: look.embedding}, *by, proxies, plane=plane)  # noqa: E731
        section.add(name, title, draw, moment=plane is not None)

    try:
        plane = Plane.fit(student[max(student)].embedding, all_of)
    except GraphKDError as error:
        section.absent.append(str(error))
        return
    for epoch, look in student.items():
        add(f"embedding-{epoch:05d}", f"student, epoch {epoch}", look, plane)
    if watched.teacher is not None:
        add("embedding-teacher", "teacher, in a plane of its own", watched.teacher)


def _classes(section: Section, facts: Facts, watched: Watched | None) -> None:
    if facts.confusion is None:
        section.absent.append("nothing was scored: the run had no labelled images (--val FOLDER), or ended early")
    elif len(facts.confusion) <= _CONFUSED:
        confusion, names = facts.confusion, facts.classes or (watched and watched.classes)
        names = names if names and len(names) == len(confusion) else None
        section.add("confusion", "Which classes are taken for which", lambda: draw_confusion(confusion, names))
