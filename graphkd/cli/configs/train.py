"""Configurations of the commands that compute: embed and distill."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from graphkd.cli.catalogue import methods
from graphkd.cli.errors import UsageError, unknown_name
from graphkd.cli.parts import Images, Output, Running, Teaching, require_at_least, require_file, require_new_folder
from graphkd.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Ask a teacher about every image once, and keep the answers in a store.

    An interrupted command goes on where it stopped: run it again. A store that is complete is not computed again.

    Args:
        out: folder of the store; made where it is missing.
        dtype: of embedding and logits on disk; half precision halves the files, int8 (a scale and an offset a row)
            quarters them.
        shard_size: samples per file; default a 32nd of all, at least 4096.
        views: of each image; what was drawn for each is kept beside its features, and distill shows the student the
            same crops.
        augment: the teacher sees the centre (none), a random crop with a border (crop) or a random part of the image,
            resized (resized); several views need crop or resized.
        flip: show half of the augmented views mirrored; not for digits and letters.

    Example::

        # a CLIP teacher and a folder of class folders
        graphkd embed --data photos --teacher ViT-B-32 --pretrained openai --out features

        # loose images, class names in a file, half precision
        graphkd embed --data loose --classes names.txt --teacher ViT-B-32 --pretrained openai --dtype float16 --out features

        # four random views of each image, an eighth of the size on disk
        graphkd embed --data photos --teacher ViT-B-32 --pretrained openai --views 4 --augment resized --dtype int8 --out crops

        # then train from it, as often as you like
        graphkd distill --data photos --teacher ViT-B-32 --pretrained openai --store features
    """  # noqa: E501

    images: Images
    teaching: Teaching
    out: Path
    dtype: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    shard_size: int | None = None
    views: int = 1
    augment: Literal["none", "crop", "resized"] = "none"
    flip: bool = True
    running: Running = field(default_factory=Running)
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        _ = self.teaching.asked
        require_new_folder("out", self.out)
        require_at_least("shard_size", self.shard_size, 1)
        require_at_least("views", self.views, 1)
        if self.views > 1 and self.augment == "none":
            raise UsageError(
                f"--views {self.views} would be the same view each time", "add --augment resized, or --augment crop"
            )


@dataclass(frozen=True, kw_only=True)
class Student:
    """student

    Args:
        student: any timm classifier by name; torchvision/NAME for torchvision's; hf:NAME or hf:FOLDER for one of
            transformers.
        student_pretrained: start from the library's weights, which are downloaded.
        init: start from the weights in this file (safetensors, or a torch state dict); each must fit but a head of
            other classes, which stays fresh.
        size: side of its images, pixels.
        augment: auto crops at random with a border up to 64 pixels, and resizes random crops above; none shows the
            centre only.
        flip: show half of the images mirrored; not for digits and letters.
        student_maps, teacher_maps: module paths of feature maps, for methods that compare maps (at, crg, fitnet, ...).
        student_tokens, teacher_tokens: module paths of token sequences, for methods that compare tokens (trg).
    """

    student: str = "resnet18"
    student_pretrained: bool = False
    init: Path | None = None
    size: int = 224
    augment: Literal["auto", "crop", "resized", "none"] = "auto"
    flip: bool = True
    student_maps: tuple[str, ...] = ()
    teacher_maps: tuple[str, ...] = ()
    student_tokens: tuple[str, ...] = ()
    teacher_tokens: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_at_least("size", self.size, 1)
        require_file("init", self.init)
        if self.init is not None and self.student_pretrained:
            raise UsageError("--init and --student-pretrained both name first weights", "give one of them")


@dataclass(frozen=True, kw_only=True)
class Distill:
    """Train a student on what a teacher says of your images.

    Labels are not used unless --labels asks for them; where the images have some, a fifth is held out to score on.
    The run folder gets run.yaml (all options, resolved), metrics, checkpoints and report.md. A run that was interrupted
    goes on with --resume, bit for bit on one device.

    Args:
        method: one of those that graphkd methods lists; none trains on labels alone.
        set: an option of the method, such as rho=0.7; repeat for more. graphkd methods NAME explains them.
        labels: no: never read. method: handed to a method that needs them (dkd). task: also learnt from, by
            cross-entropy.
        val: folder of labelled images to score on; default: val/ in --data, else the part that is held out.
        held_out: share of labelled images that is kept for scoring where there is no other folder.
        store: keep the teacher's features of --data here, or take those that graphkd embed kept; of a store of random
            views the student sees the same crops.
        score_teacher: score the teacher on the same images before training.
        watch: images whose embeddings are kept at up to 11 epochs, for pictures; 0 for none.
        report: write report.html at the end; default where pip install 'graphkd[report]' was.
        run: run folder; default runs/NAME-NUMBER.
        resume: go on where the run stopped.

    Example::

        # a CLIP teacher, no labels, a ResNet-18 student
        graphkd distill --data photos --teacher ViT-B-32 --pretrained openai --student resnet18 --epochs 100

        # another method with an option of its own, and a classifier as teacher
        graphkd distill --data photos --method rkd --set angle_weight=0.5 --labels task --teacher timm:resnet50 --pretrained default

        # the same again from the file of an earlier run, one thing changed; and a run that was interrupted
        graphkd distill --config runs/photos-1/run.yaml --lr 3e-4 --run runs/photos-slow
        graphkd distill --config runs/photos-1/run.yaml --resume
    """  # noqa: E501

    images: Images
    teaching: Teaching
    student: Student = field(default_factory=Student)
    train: TrainConfig = field(default_factory=TrainConfig, metadata={"without": ("progress",)})
    method: str = "prg"
    set: dict[str, Any] = field(default_factory=dict)
    labels: Literal["no", "method", "task"] = "no"
    val: Path | None = None
    held_out: float = 0.2
    store: Path | None = None
    score_teacher: bool = True
    watch: int = 200
    report: bool | None = None
    run: Path | None = None
    resume: bool = False
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        if self.method != "none" and self.method not in methods():
            raise unknown_name("method", self.method, [*methods(), "none"])
        if self.method == "combined" and "parts" not in self.set:
            raise UsageError(
                "--method combined needs the methods that it combines",
                "give them with their options: --set 'parts={kd: {}, rkd: {angle_weight: 0}}'",
            )
        if self.method == "none" and self.labels != "task":
            raise UsageError("--method none leaves nothing to learn from", "add --labels task, or choose a --method")
        if self.method != "none":
            _ = self.teaching.asked
        if not 0 <= self.held_out < 1:
            raise UsageError(f"--held-out is a share in [0, 1), found {self.held_out}", "give --held-out 0.2")
        if self.val is not None and not self.val.is_dir():
            raise UsageError(f"there is no folder --val {self.val}", "give a folder with one folder of images a class")
        require_at_least("watch", self.watch, 0)
        for name in ("store", "run"):
            require_new_folder(name, getattr(self, name))
        if self.store is not None and (self.student.teacher_maps or self.student.teacher_tokens):
            raise UsageError("a store keeps no maps and no tokens", "leave --store out for a method that needs them")
