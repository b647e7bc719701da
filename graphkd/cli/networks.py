"""The teachers and students that the options of a command name."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphkd.cli.commands.distill import Distill
from graphkd.cli.console import Console
from graphkd.cli.errors import UsageError, require
from graphkd.cli.first_look import described_run, require_texts
from graphkd.cli.first_look import run_classes as run_classes
from graphkd.cli.images import require_classes
from graphkd.cli.option_groups import STUDENT, TeacherOptions
from graphkd.data.class_names import Classes
from graphkd.data.sources import ImageSource
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.transforms import Transform, network_view
from graphkd.errors import TapError, TeacherError
from graphkd.files import local_path
from graphkd.models.huggingface import PREFIX, is_clip
from graphkd.models.installed import LITE, TORCHVISION, listed_network
from graphkd.models.students import create_student
from graphkd.models.tap import Tap
from graphkd.models.weights import load_weights
from graphkd.teachers.base import NetworkTeacher, Teacher
from graphkd.teachers.classifier import ClassifierTeacher
from graphkd.teachers.clip import CLIPTeacher
from graphkd.teachers.clip_images import CLIPImageTeacher
from graphkd.teachers.huggingface import hf_teacher
from graphkd.teachers.lite import lite_teacher
from graphkd.text import read_text
from graphkd.training.checkpoint import check_weights, student_weights
from graphkd.training.devices import device_of as device_of


def open_teacher(
    teaching: TeacherOptions,
    classes: Sequence[str] | None,
    device: torch.device,
    maps: Sequence[str] = (),
    tokens: Sequence[str] = (),
    headless: bool = False,
) -> Teacher:
    """The teacher that was asked for.

    Args:
        classes: names of the images' classes, or ``None``.
        maps, tokens: module paths to expose; classifiers only.
        headless: of a CLIP its image tower alone, which needs no class names.
    """
    asked = teaching.asked
    network = listed_network(asked)
    if network is not None and asked not in LITE:
        return classifier_teacher(network, teaching, classes, device, maps, tokens)
    if asked in LITE or (asked.startswith(PREFIX) and not is_clip(asked)):
        make = lite_teacher if asked in LITE else hf_teacher
        sizes = {} if teaching.teacher_size is None else {"image_size": teaching.teacher_size}
        precision = _precision_of(teaching, device)
        return make(asked, classes=classes, maps=maps, tokens=tokens, precision=precision, device=device, **sizes)
    if (local_path(asked) / STUDENT).is_file():
        tap, about = open_student(local_path(asked))
        size, named = teaching.teacher_size or about["size"], about["classes"] or None  # a backbone has no classes
        return _teacher_of(tap, teaching, device, maps, tokens, classes=named, image_size=size)
    require(
        not maps and not tokens,
        f"--teacher {asked} is no classifier and exposes no maps or tokens",
        "use --teacher timm:NAME, or a method that compares embeddings",
    )
    return _clip_images(asked, teaching, device) if headless else _clip(asked, teaching, classes, device)


def classifier_teacher(
    network: str,
    teaching: TeacherOptions,
    classes: Sequence[str] | None,
    device: torch.device,
    maps: Sequence[str],
    tokens: Sequence[str],
) -> ClassifierTeacher:
    """A timm or torchvision classifier with the library's weights or those of a file."""
    if teaching.pretrained == "default":
        own = _own_classes(network)
        same = own == len(classes or ()) or classes is None
        try:
            tap = create_student(network, own, pretrained=True)
        except TapError as error:
            remedy = "give --pretrained PATH of a checkpoint, or run it once where there is a network"
            raise UsageError(str(error).partition(": use")[0], remedy) from error
        if not same:  # its class scores are of other classes: its embedding is all that is of use
            return _teacher_of(tap, teaching, device, maps, tokens, headless=True)
    else:
        tap = create_student(network, len(classes) if classes else _own_classes(network))
        load_weights(tap, str(teaching.pretrained), other_classes=False)
    return _teacher_of(tap, teaching, device, maps, tokens, classes=classes)


def _teacher_of(
    tap: Tap,
    teaching: TeacherOptions,
    device: torch.device,
    maps: Sequence[str],
    tokens: Sequence[str],
    *,
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    headless: bool = False,
) -> ClassifierTeacher:
    assert tap.mean is not None
    assert tap.std is not None
    model: Any = tap.model
    if headless:
        if not hasattr(model, "reset_classifier"):
            raise TeacherError("the classes of this teacher are not those of the images: use its timm: namesake")
        model.reset_classifier(0)
    return ClassifierTeacher(
        model,
        classes=classes,
        mean=tap.mean.flatten().tolist(),
        std=tap.std.flatten().tolist(),
        image_size=teaching.teacher_size or image_size,
        head=False if headless else None,
        maps=maps,
        tokens=tokens,
        precision=_precision_of(teaching, device),
        device=device,
    )


def _own_classes(network: str) -> int:
    if network.startswith(TORCHVISION):
        return 1000
    import timm

    known = timm.get_pretrained_cfg(network) if timm.is_model(network) else None
    return 1000 if known is None else int(known.num_classes)


def _precision_of(teaching: TeacherOptions, device: torch.device) -> Any:
    if teaching.teacher_precision != "auto":
        return teaching.teacher_precision
    return "fp16" if device.type == "cuda" else "fp32"


def teacher_view(teacher: Teacher, size: int | None = None) -> Transform:
    """What the teacher is shown: its own preprocessing, from the file."""
    return network_view(teacher.preprocess if isinstance(teacher, NetworkTeacher) else None, size)


def make_student(
    config: Distill, train: ImageSource, teacher: Teacher | EmbeddingStore | None, console: Console
) -> tuple[Tap, Classes]:
    """A student with its first weights, and its classes; none of a backbone."""
    chosen, given = config.student, train.classes or (teacher and teacher.classes)
    names = Classes([])
    if chosen.student_head == "classes":
        names = Classes(given) if given else require_classes(train)
    torch.manual_seed(config.train.seed)
    tap = create_student(
        chosen.student,
        len(names),
        pretrained=chosen.student_pretrained,
        maps=chosen.student_maps,
        tokens=chosen.student_tokens,
    )
    if chosen.init is not None and chosen.init.is_file() and (fresh := load_weights(tap, chosen.init)):
        console.remark(f"{chosen.init} has a head of other classes: {', '.join(fresh)} start fresh")
    return tap, names


def open_student(run: Path, model_from: str | None = None) -> tuple[Any, dict[str, Any]]:
    """The trained student of a run folder in eval mode, and what is known of it.

    Args:
        run: folder of ``graphkd distill`` or of a Trainer.
        model_from: ``"package.module:function"`` that builds a network of the user's own.

    Raises: CheckpointError for a run without a checkpoint, or with a damaged description; UsageError for a network of
        the user's own without ``model_from``.
    """
    about, weights = described_run(run), student_weights(run)
    if about["student"] is None:
        network = _own_network(run, model_from)
        if not isinstance(network, Tap) and all(name.startswith("model.") for name in weights):
            network = Tap(network, mean=about["mean"], std=about["std"])
    else:
        network = create_student(about["student"], about["num_classes"])
    check_weights(network.state_dict(), weights, str(run))
    network.load_state_dict(weights)
    return network.eval(), about


def _own_network(run: Path, model_from: str | None) -> nn.Module:
    """A network that no library lists, built by a function of the user's."""
    module, colon, function = (model_from or "").partition(":")
    require(
        bool(module and colon and function),
        f"{run} holds a network of your own, which graphkd cannot build by its name",
        "give --model-from package.module:function, a function that builds it",
    )
    sys.path.insert(0, "")  # as python -m does: the user's module may lie in this folder
    try:
        network: nn.Module = getattr(import_module(module), function)()
    except (ImportError, AttributeError) as error:
        what = f"--model-from {model_from} cannot be had: {error}"
        raise UsageError(what, "name a function of a module that Python finds from this folder") from error
    finally:
        sys.path.remove("")
    return network


def _clip(asked: str, teaching: TeacherOptions, classes: Sequence[str] | None, device: torch.device) -> CLIPTeacher:
    require_texts(asked, classes)
    cache = teaching.text_cache or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "graphkd" / "text"
    return CLIPTeacher(
        asked,
        pretrained=teaching.pretrained,
        classes=classes or (),
        templates=templates_of(teaching.templates),
        weight=teaching.prompt_weight,
        quick_gelu=teaching.quick_gelu,
        precision=_precision_of(teaching, device),
        device=device,
        cache_dir=cache,
        preprocess=None if teaching.teacher_size is None else {"size": teaching.teacher_size},
    )


def _clip_images(asked: str, teaching: TeacherOptions, device: torch.device) -> CLIPImageTeacher:
    return CLIPImageTeacher(
        asked,
        pretrained=teaching.pretrained,
        quick_gelu=teaching.quick_gelu,
        precision=_precision_of(teaching, device),
        device=device,
        preprocess=None if teaching.teacher_size is None else {"size": teaching.teacher_size},
    )


def templates_of(asked: str) -> str | list[str]:
    """A set of prompts by its name, or those of a text file."""
    path = local_path(asked)
    return [line.strip() for line in read_text(path).splitlines() if line.strip()] if path.is_file() else asked
