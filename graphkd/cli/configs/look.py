"""Configurations of the commands that look at a network: evaluate and inspect."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from graphkd.cli.errors import UsageError
from graphkd.cli.options import POSITIONAL
from graphkd.cli.parts import (
    Images,
    Output,
    Running,
    Teaching,
    require_at_least,
    require_file,
    require_new_folder,
    require_run,
)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Score a student or a teacher on labelled images: top-1, top-5, calibration, each class.

    A CLIP-like teacher is scored zero-shot, by averaged text embeddings and by weighted prompt logits.

    Args:
        model: run folder of graphkd distill, or a model.onnx of graphkd export.
        which: the last checkpoint of the run, or the best on the images it was scored on, which flatters it.
        per_class: also each class: images, share right, and what it is taken for.
        out: write the scores to this JSON file too.

    Example::

        # a distilled student on other images
        graphkd evaluate --model runs/photos-1 --data more-photos

        # what a teacher can do before you learn from it
        graphkd evaluate --teacher ViT-B-32 --pretrained openai --data photos

        # in a script
        graphkd evaluate --model runs/photos-1 --data more-photos --json | python -c 'import json,sys; print(json.load(sys.stdin)["top1"])'
    """  # noqa: E501

    images: Images
    teaching: Teaching = field(default_factory=Teaching)
    running: Running = field(default_factory=Running)
    model: Path | None = None
    which: Literal["last", "best"] = "last"
    per_class: bool = True
    out: Path | None = None
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        if (self.model is None) == (self.teaching.teacher is None):
            found = "neither" if self.model is None else "both"
            raise UsageError(
                f"expected --model or --teacher, found {found}",
                "give --model runs/photos-1 to score a student, or --teacher ViT-B-32 --pretrained openai",
            )
        if self.model is not None:
            _require_model("model", self.model, onnx=True)
        if self.out is not None and self.out.is_dir():
            raise UsageError(f"--out {self.out} is a folder", "give the path of a JSON file")


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """What a teacher or student says about a folder: its graphs, neighbours and proxies.

    Shows each image's prediction and nearest images, the classes that lie closest, how well neighbours agree in their
    class, and the spectrum of the graph. With a student and a teacher also how far both graphs agree.

    Args:
        model: run folder of graphkd distill.
        neighbours: nearest images per image.
        limit: images to look at; more are drawn evenly over the folder.
        show: images to print; the file of --out holds all.
        pictures: draw into this folder: the graph of images and class proxies, its spectrum, and of two networks the
            relation matrices.
        out: write everything to this JSON file: edges in PyG's edge_index format, neighbours, proxies.

    Example::

        # a student alone
        graphkd inspect --model runs/photos-1 --data photos

        # how much of its teacher's graph it has
        graphkd inspect --model runs/photos-1 --teacher ViT-B-32 --pretrained openai --data photos --out graph.json

        # the same as pictures
        graphkd inspect --model runs/photos-1 --teacher ViT-B-32 --pretrained openai --data photos --pictures drawn
    """

    images: Images
    teaching: Teaching = field(default_factory=Teaching)
    running: Running = field(default_factory=Running)
    model: Path | None = None
    neighbours: int = 5
    limit: int = 512
    show: int = 10
    pictures: Path | None = None
    out: Path | None = None
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        if self.model is None and self.teaching.teacher is None:
            raise UsageError(
                "expected --model or --teacher or both, found neither",
                "give --model runs/photos-1, or --teacher ViT-B-32 --pretrained openai",
            )
        if self.model is not None:
            _require_model("model", self.model, onnx=False)
        require_new_folder("pictures", self.pictures)
        for name, least in (("neighbours", 1), ("limit", 3), ("show", 0)):
            require_at_least(name, getattr(self, name), least)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Pictures and one HTML page of a run: curves, relations, graph, spectra, embeddings over the epochs, classes.

    Everything comes from the run folder, also of a run that was interrupted: neither the images nor the teacher are
    needed. The page needs no network and no other file.

    Args:
        run: folder of graphkd distill, or of any Trainer.
        out: the page; default report.html in the run folder.
        pictures: also write each picture into this folder.
        format: of those pictures.
        seed: of the layout of graphs.

    Example::

        graphkd report runs/photos-1
        graphkd report runs/photos-1 --pictures figures --format svg
    """

    run: Annotated[Path, POSITIONAL]
    out: Path | None = None
    pictures: Path | None = None
    format: Literal["png", "svg"] = "png"
    seed: int = 0
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        if not self.run.is_dir():
            raise UsageError(
                f"there is no run folder {self.run}", "give the folder that graphkd distill named at its end"
            )
        if not any((self.run / name).is_file() for name in ("run.yaml", "config.json")):
            raise UsageError(
                f"{self.run} is no run folder: it has neither run.yaml nor config.json",
                "give the folder that graphkd distill named, such as runs/photos-1",
            )
        if self.out is not None and self.out.is_dir():
            raise UsageError(f"--out {self.out} is a folder", "give the path of an HTML file")
        require_new_folder("pictures", self.pictures)
        require_at_least("seed", self.seed, 0)


def _require_model(name: str, path: Path, *, onnx: bool) -> None:
    if onnx and path.suffix == ".onnx":
        require_file(name, path)
        if not path.with_name("export.json").is_file():
            raise UsageError(f"there is no export.json beside {path}", "give a model.onnx that graphkd export wrote")
        return
    require_run(path)
