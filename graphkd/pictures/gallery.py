"""From a run folder to its pictures, section by section; what cannot be drawn says why."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from graphkd.errors import GraphKDError, MissingFeatureError
from graphkd.files import local_path
from graphkd.graphs import relations
from graphkd.graphs.edges import NORMALISERS, Edges
from graphkd.pictures.canvas import finite
from graphkd.pictures.confusion import draw_confusion
from graphkd.pictures.curves import draw_curves
from graphkd.pictures.embeddings import Plane, draw_embeddings
from graphkd.pictures.facts import Facts
from graphkd.pictures.proxy_graph import draw_proxy_graph
from graphkd.pictures.relations import draw_relations
from graphkd.pictures.spectra import draw_spectra
from graphkd.training.watch import Snapshot, Watched
from graphkd.typing import Int, Tensor

_CONFUSED = 100  # classes up to which the confusion is drawn


@dataclass(frozen=True)
class Picture:
    """One picture.

    Args:
        name: of its file, without a suffix.
        caption: what is to be seen.
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
        key: short name.
        title: heading.
        text: what is shown and how to read it.
        pictures: in order.
        absent: why there are fewer than there could be.
    """

    key: str
    title: str
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
    return [_curves(facts), *_of_watched(watched, seed), _classes(facts, watched)]


def _curves(facts: Facts) -> Section:
    section = Section("curves", "Curves", "Every loss term with its weight inside, as the training log has it.")
    section.add(
        "curves", "Loss terms, accuracy and learning rate", lambda: draw_curves(facts.lines, facts.teacher_top1)
    )
    return section


def _classes(facts: Facts, watched: Watched | None) -> Section:
    section = Section("classes", "Classes", "The latest scoring on held-out images, class by class.")
    if facts.confusion is None:
        section.absent.append("nothing was scored: the run had no labelled images (--val FOLDER), or ended early")
    elif len(facts.confusion) <= _CONFUSED:
        confusion, names = facts.confusion, facts.classes or (watched and watched.classes)
        names = names if names and len(names) == len(confusion) else None
        section.add("confusion", "Which classes are taken for which", lambda: draw_confusion(confusion, names))
    return section


def _of_watched(watched: Watched | None, seed: int) -> list[Section]:
    sections = [
        Section(
            "relations",
            "Relations",
            "Cosines between the images as teacher and student see them. A student that has learnt the teacher's graph "
            "shows the same blocks, and its difference is pale.",
        ),
        Section(
            "graph",
            "Graph",
            "The strongest edges between images and class proxies (cosine, each image's mean subtracted). Proxies "
            "stand at the same places for both networks.",
        ),
        Section(
            "spectra",
            "Spectra",
            "Eigenvalues of the Laplacians: small ones tell groups that hardly touch, one for each group.",
        ),
        Section(
            "embeddings",
            "Embeddings",
            "The student's embedding at several epochs in one plane, the two principal components of the last one, and "
            "the teacher's in a plane of its own. Stars are class proxies.",
        ),
    ]
    if watched is None or not watched.student:
        for section in sections:
            section.absent.append("the run watched no images: graphkd distill --watch 200, or Trainer(..., watch=...)")
        return sections
    _fill(watched, sections, seed)
    return sections


def _fill(watched: Watched, sections: list[Section], seed: int) -> None:
    relation, graph, spectra, embeddings = sections
    last = watched.student[max(watched.student)]
    labels, names = _labels(watched, last)
    looks = {"teacher": watched.teacher, "student": last}
    there = {name: look for name, look in looks.items() if look is not None}
    if watched.teacher is None:
        relation.absent.append("the run had no teacher")
    else:
        teacher, student = (_cosines(each) for each in (watched.teacher, last))
        relation.add("relations", "Image to image", lambda: draw_relations(teacher, student, labels, names))
        to = "Image to class proxy"
        relation.add("relations-proxies", to, lambda: _to_proxies(watched.teacher, last, labels, names))
    edges = {name: _to_classes(look) for name, look in there.items() if look.proxies is not None}
    for name in there.keys() - edges.keys():
        graph.absent.append(f"the {name} has no class proxies")
    if edges:
        caption = "Images and class proxies"
        graph.add("graph", caption, lambda: draw_proxy_graph(edges, watched.images, labels, names, seed=seed))
    _spectra(spectra, watched.teacher, last)
    _embeddings(embeddings, watched, labels, names)


def _labels(watched: Watched, last: Snapshot) -> tuple[Int[Tensor, " n"] | None, list[str] | None]:
    """What orders and colours the pictures: labels, else the teacher's guess, else the student's."""
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


def _to_proxies(teacher: Snapshot | None, student: Snapshot, labels: Tensor | None, names: list[str] | None) -> Any:
    if teacher is None or teacher.proxies is None or student.proxies is None:
        raise MissingFeatureError("teacher and student need class proxies both")
    sides = _to_classes(teacher), _to_classes(student)
    return draw_relations(*sides, labels, names, columns="class", relation="cosine, row mean subtracted")


def _spectra(section: Section, teacher: Snapshot | None, student: Snapshot) -> None:
    def samples(look: Snapshot) -> Mapping[str, Tensor]:
        x = finite("embedding", look.embedding)
        return {"images": torch.linalg.eigvalsh(Edges(x, x, relations.cosine).laplacian())[None]}

    def drawn() -> Any:
        return draw_spectra(samples(student), None if teacher is None else samples(teacher))

    section.add("spectrum-samples", "Graph of the images (cosine)", drawn)
    maps = student.spectra, None if teacher is None else teacher.spectra
    if maps[0] or maps[1]:
        caption = "Graphs of the channels, level by level (Pearson's correlation)"
        section.add("spectra-channels", caption, lambda: draw_spectra(*maps))
    else:
        section.absent.append("no channel spectra: the method compared no maps (--student-maps, --teacher-maps)")


def _embeddings(section: Section, watched: Watched, labels: Tensor | None, names: list[str] | None) -> None:
    student = watched.student
    all_of = [value for each in student.values() for value in (each.embedding, each.proxies) if value is not None]
    try:
        plane = Plane.fit(student[max(student)].embedding, all_of)
    except GraphKDError as error:
        section.absent.append(str(error))
        return
    for epoch, look in student.items():
        _map(section, f"embedding-{epoch:05d}", f"student, epoch {epoch}", look, (labels, names), plane, moment=True)
    if watched.teacher is not None:
        look = watched.teacher
        try:
            everything = [look.embedding] if look.proxies is None else [look.embedding, look.proxies]
            own = Plane.fit(look.embedding, everything)
        except GraphKDError as error:
            section.absent.append(f"the teacher: {error}")
            return
        _map(section, "embedding-teacher", "teacher, in a plane of its own", look, (labels, names), own)


def _map(
    section: Section, name: str, title: str, look: Snapshot, by: tuple[Any, Any], plane: Plane, moment: bool = False
) -> None:
    proxies = None if look.proxies is None else {title: look.proxies}
    section.add(name, title, lambda: draw_embeddings({title: look.embedding}, *by, proxies, plane=plane), moment)
