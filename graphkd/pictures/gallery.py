"""The pictures of a run folder, section by section; a section says why a picture is absent."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch

from graphkd.errors import GraphKDError, MissingFeatureError
from graphkd.files import local_path
from graphkd.graphs import relations
from graphkd.graphs.edges import NORMALISERS, Edges
from graphkd.pictures.canvas import finite
from graphkd.pictures.confusion import draw_confusion
from graphkd.pictures.curves import draw_curves
from graphkd.pictures.embeddings import draw_embeddings
from graphkd.pictures.facts import Facts, class_agreement
from graphkd.pictures.proxy_graph import draw_proxy_graph
from graphkd.pictures.quality import draw_class_bars, draw_guesses, draw_reliability
from graphkd.pictures.relations import draw_relations
from graphkd.pictures.spectra import draw_spectra
from graphkd.training.quality import Answers, Quality, collapse_warning, unsure_warning
from graphkd.training.watch import Snapshot, Watched
from graphkd.typing import Int, Tensor

_By: TypeAlias = tuple[Int[Tensor, " n"] | None, list[str] | None]  # classes of the images, and their names
_IN_EFFECT = "student_classes", "teacher_classes", "images"
_CONFUSED = 100  # classes up to which the confusion is drawn
_GUESSES = 16  # images that are shown with both guesses
_TEXTS = {  # what each section shows and how to read it
    "quality": "Student and teacher on images that were not trained on; no label is read. Both guess a class as often "
    "where the student has learnt the teacher's view, and a student that is as sure as it agrees follows the diagonal.",
    "summary": "Every loss term with its weight inside, as the training log has it; the scores; what was run.",
    "relations": "Cosines between the images as teacher and student see them. A student that has learnt the teacher's "
    "graph shows the same blocks, and its difference is pale.",
    "graph": "The strongest edges between images and class proxies (cosine, each image's mean subtracted). Proxies "
    "stand at the same places for both networks.",
    "spectra": "Eigenvalues of the Laplacians. There is one near 0 for each group that hardly touches the others. A "
    "student that has learnt the teacher's groups has the teacher's curve.",
    "embeddings": "The two principal components of the normalised embeddings. Stars are class proxies. Planes of two "
    "networks differ: compare which classes are neighbours, not where they lie.",
    "classes": "The latest scoring on held-out images, class by class.",
}


@dataclass(frozen=True)
class Picture:
    """One picture.

    Args:
        name: of its file, without a suffix.
        caption: what it shows.
        figure: a ``matplotlib.figure.Figure``.
    """

    name: str
    caption: str
    figure: Any


@dataclass
class Section:
    """Pictures of one kind.

    Args:
        key: short name, which is the heading too.
        text: what is shown and how to read it.
        pictures: in order.
        absent: why there are fewer than there could be.
        warnings: what is wrong with the run.
    """

    key: str
    text: str
    pictures: list[Picture] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, name: str, caption: str, draw: Callable[[], Any]) -> None:
        """Draw one; where it cannot be drawn, keep the reason."""
        try:
            self.pictures.append(Picture(name, caption, draw()))
        except GraphKDError as error:
            self.absent.append(f"{caption}: {error}")


def gallery(run: Path | str) -> list[Section]:
    """All pictures of a run, finished or not, from its folder alone.

    Args:
        run: the folder.

    Raises: CheckpointError for a folder whose files are damaged.
    Example: ``[picture.name for section in gallery("runs/photos-1") for picture in section.pictures]``
    """
    facts, watched = Facts.read(local_path(run)), Watched.read(local_path(run))
    sections = [Section(key, text) for key, text in _TEXTS.items()]
    quality, summary, *of_watched, classes = sections
    _quality(quality, facts, watched)
    title = "Loss terms, accuracy and learning rate"
    summary.add("curves", title, lambda: draw_curves(facts.lines, facts.teacher_top1))
    for section, draw in zip(of_watched, (_relations, _graph, _spectra, _embeddings), strict=True):
        if watched is None or not watched.student:
            section.absent.append("the run watched no images: graphkd distill --watch 200, or Trainer(..., watch=...)")
        else:
            draw(section, watched, watched.student[max(watched.student)])
    _classes(classes, facts, watched)
    return sections if facts.quality else sections[1:]


def _labels(watched: Watched, last: Snapshot) -> _By:
    """Classes that order and colour the pictures: labels, else the teacher's predictions, else the student's."""
    if watched.labels is not None:
        return watched.labels, watched.classes
    for look in (watched.teacher, last):
        if look is not None and look.logits is not None:
            fits = watched.classes is not None and look.logits.shape[1] == len(watched.classes)
            return look.logits.argmax(1), watched.classes if fits else None
    return None, None


def _cosines(look: Snapshot) -> Edges:
    return Edges(look.embedding, look.embedding, relations.cosine, name="cosine")


def _to_classes(look: Snapshot) -> Tensor:
    if look.proxies is None:
        raise MissingFeatureError("teacher and student need class proxies both")
    return Edges(look.embedding, look.proxies, relations.cosine, NORMALISERS.get("center"), name="cosine").dense()


def _quality(section: Section, facts: Facts, watched: Watched | None) -> None:
    """Both networks beside each other: class by class, by confidence, and the images on which they differ."""
    bins = facts.reliability
    if bins is None:
        return
    if facts.collapsed:
        section.warnings.append(collapse_warning(*(facts.quality[name] for name in _IN_EFFECT)))
    unsure = unsure_warning(facts.quality["teacher_confidence"], facts.quality["classes"])
    section.warnings += [unsure] if unsure else []
    names = facts.classes or (watched.classes if watched else None)
    rows = class_agreement(facts.pairs, int(facts.quality["classes"]), names)
    section.add("quality-classes", "What both guess, class by class", lambda: draw_class_bars(rows))
    section.add("quality-reliability", "Is the student as sure as it agrees?", lambda: draw_reliability(bins))
    looks = [watched.teacher, watched.student[max(watched.student)]] if watched and watched.student else []
    logits = [each.logits for each in looks if each is not None and each.logits is not None]
    if watched is None or len(logits) < 2:
        section.absent.append(
            "no images to show: the run watched none with class scores of both networks (--watch 200)"
        )
        return
    try:
        teacher, student = map(Answers.of, logits)
        _guesses(section, watched, Quality(student, teacher), names)
    except GraphKDError as error:
        section.absent.append(f"The images on which they differ: {error}")


def _guesses(section: Section, watched: Watched, quality: Quality, names: list[str] | None) -> None:
    names = names if names and len(names) == quality.teacher.classes else None

    def show(positions: list[int]) -> Any:
        ours, theirs = (
            [(int(each.guess[at]), float(each.confidence[at])) for at in positions]
            for each in (quality.student, quality.teacher)
        )
        return draw_guesses(watched.images[positions], ours, theirs, names)

    among = f"of {quality.images} watched images"
    if apart := quality.disagreed(_GUESSES):
        title = f"Sure of different classes: {len(apart)} {among}"
        section.add("quality-disagreed", title, lambda: show(apart))
    unsure = quality.least_certain(_GUESSES)
    section.add("quality-uncertain", f"The student is least sure: {len(unsure)} {among}", lambda: show(unsure))


def _relations(section: Section, watched: Watched, last: Snapshot) -> None:
    teacher, by = watched.teacher, _labels(watched, last)
    if teacher is None:
        section.absent.append("the run had no teacher")
        return

    def to_proxies() -> Any:
        relation = "cosine, row mean subtracted"
        return draw_relations(_to_classes(teacher), _to_classes(last), *by, columns="class", relation=relation)

    images = lambda: draw_relations(_cosines(teacher).dense(), _cosines(last).dense(), *by)  # noqa: E731
    section.add("relations", "Image to image", images)
    section.add("relations-proxies", "Image to class proxy", to_proxies)


def _graph(section: Section, watched: Watched, last: Snapshot) -> None:
    looks = {"teacher": watched.teacher, "student": last}
    edges = {name: _to_classes(each) for name, each in looks.items() if each is not None and each.proxies is not None}
    by = _labels(watched, last)
    section.add("graph", "Images and class proxies", lambda: draw_proxy_graph(edges, watched.images, *by))


def _spectra(section: Section, watched: Watched, last: Snapshot) -> None:
    def of_images(look: Snapshot | None) -> dict[str, Tensor]:
        if look is None:
            return {}
        _ = finite("embedding", look.embedding)
        values = torch.linalg.eigvalsh(_cosines(look).laplacian())
        return {f"graph of {len(values)} images (cosine)": values[None]}

    teacher = watched.teacher
    section.add("spectrum-samples", "Graph of the images", lambda: draw_spectra(of_images(last), of_images(teacher)))
    title = "Graphs of the channels, level by level (Pearson's correlation)"
    section.add(
        "spectra-channels", title, lambda: draw_spectra(last.spectra, {} if teacher is None else teacher.spectra)
    )


def _embeddings(section: Section, watched: Watched, last: Snapshot) -> None:
    by = _labels(watched, last)

    def add(name: str, title: str, looks: dict[str, Snapshot], shared: bool) -> None:
        embeddings = {each: look.embedding for each, look in looks.items()}
        proxies = {each: look.proxies for each, look in looks.items() if look.proxies is not None}
        section.add(name, title, lambda: draw_embeddings(embeddings, *by, proxies, shared=shared))

    beside = {} if watched.teacher is None else {"teacher": watched.teacher}
    latest = {f"student, epoch {max(watched.student)}": last, **beside}
    add("embeddings", "The last epoch, each network in a plane of its own", latest, shared=False)
    if len(watched.student) > 1:
        looks = {f"epoch {epoch}": look for epoch, look in watched.student.items()}
        add("embeddings-epochs", "The student over the epochs, in the last one's plane", looks, shared=True)


def _classes(section: Section, facts: Facts, watched: Watched | None) -> None:
    if facts.confusion is None:
        if facts.quality:
            section.text = "No labels: see Quality."
        elif any("cosine" in line for line in facts.lines):
            section.text = "The student is a backbone: it has no classes."
        else:
            section.absent.append("nothing was scored: the run had no labelled images (--val FOLDER), or ended early")
    elif len(facts.confusion) <= _CONFUSED:
        confusion, names = facts.confusion, facts.classes or (watched and watched.classes)
        names = names if names and len(names) == len(confusion) else None
        section.add("confusion", "Which classes are taken for which", lambda: draw_confusion(confusion, names))
