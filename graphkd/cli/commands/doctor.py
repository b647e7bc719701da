"""graphkd doctor: what will run here, what will not, and why."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from itertools import groupby
from typing import Annotated, Any, NamedTuple

from cyclopts import Group, Parameter
from cyclopts.types import ExistingDirectory, PositiveInt
from cyclopts.validators import Number
from packaging.requirements import Requirement

from graphkd.cli.catalogue import methods
from graphkd.cli.console import Console
from graphkd.cli.errors import UsageError, flag_of
from graphkd.cli.option_groups import Command, require_device, require_teacher_network
from graphkd.models.installed import require_network
from graphkd.training.config import METHOD

_GIVES = {  # extra -> what it is for
    "train": "distill, progress bars, TensorBoard, the digits",
    "detection": "the detection example",
    "report": "pictures and HTML reports: graphkd report",
    "export": "ONNX and 8-bit integers: graphkd export, and evaluate or predict --model model.onnx",
    "parquet": "graphkd predict --out guesses.parquet",
    "integrations": "Lightning, Hugging Face, webdataset",
    "trackers": "Weights & Biases, MLflow",
}
_ADVICE = "graphkd tune verifies and times the kernels on this machine, in some 3 minutes"
_WIDTH = 26  # characters of a name
_MARKS = {True: "ok", False: "!!", None: "--"}
_PROBLEMS = {  # losses that one meets, as operation, shapes and options of graphkd_kernels.explain
    "256 images x 1000 classes": ("edge_sum", [(256, 512), None, (1000, 512), None], ("pearson", "square")),
    "4096 images": ("edge_sum", [(4096, 512), None, (4096, 512), None], ("cosine", "square")),
}


class Finding(NamedTuple):
    """One line: what was looked at, whether it is fine (``None``: it is optional and absent), and the facts."""

    topic: str
    name: str
    fine: bool | None
    text: str


@Parameter(name="*", group=Group("with --speed", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is measured.

    Args:
        data: folder of images to decode; default: JPEG files of 256 to 500 pixels that are made for it.
        student: a network of timm, or torchvision/NAME; it has 1,000 classes.
        method: how it is distilled; one that compares embeddings or class scores.
        teacher: by its name, as distill takes it: of open_clip (ViT-B-32), timm:NAME, torchvision:NAME, lite0 or
            lite2; the default is the image tower of CLIP's ViT-B/32.
        size: side of the student's images, pixels.
        batch_size: images of a training step; default 32 on a CPU, 256 on a GPU.
        workers: processes that would load images; default: one for each processor.
        device: auto takes a GPU where there is one; or cpu, cuda, cuda:1.
    """

    data: ExistingDirectory | None = None
    student: str = "resnet18"
    method: Annotated[str, Parameter(choices=tuple(methods()))] = METHOD
    teacher: str = "timm:vit_base_patch32_clip_224"
    size: PositiveInt = 224
    batch_size: Annotated[int, Parameter(validator=Number(gte=2))] | None = None
    workers: PositiveInt | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        require_network("student", self.student)
        require_teacher_network(self.teacher)
        require_device(self.device)


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Versions, devices, kernels' backends and extras: what will run here, what will not, and why.

    Exit code 1 if something that the core needs is missing or too old.

    Args:
        speed: measure how many images a second this machine decodes, transforms and trains on, in about a minute;
            tell what limits it, and the hours of an epoch over ImageNet-1k. The networks have random weights, which
            are as fast as trained ones.

    Example::

        graphkd doctor
        graphkd doctor --json

        # how fast this machine reads these photos, and trains that student on them
        graphkd doctor --speed --data photos --student resnet50 --method rkd
    """

    speed: bool = False
    measured: Measured = field(default_factory=Measured)


def run(config: Doctor = Doctor(), *, console: Console) -> int:  # it is frozen
    """What runs here and why."""
    stray = console.given & {each.name for each in fields(Measured)}
    if stray and not config.speed:
        raise UsageError(f"{flag_of(min(stray))} says what --speed measures, and --speed is missing", "add --speed")
    machine = f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} processors"
    found = [Finding("machine", "python", True, machine), *_packages()]
    if find_spec("torch") is not None:  # else it is among the packages that are missing
        found += [*_devices(), *_backends(), *_plans()]
    good = all(each.fine is not False for each in found)
    lines = []
    for topic, rows in groupby(found, key=lambda each: each.topic):
        lines += [f"{topic}:", *(f"  {_MARKS[each.fine]} {each.name:{_WIDTH}}  {each.text}" for each in rows)]
    last = "everything that the core needs is here" if good else "something that the core needs is missing: see !!"
    facts: dict[str, Any] = {"good": good, "findings": [each._asdict() for each in found]}
    if config.speed and good:
        from graphkd.cli.speed import facts_of, lines_of

        facts["speed"] = facts_of(config.measured, console)
        last = "\n".join([*lines_of(facts["speed"]), last])
    console.result(facts, "\n".join([*lines, last]))
    return 0 if good else 1


def _packages() -> Iterator[Finding]:
    """Every package of the core, and of each extra whether it is complete, by graphkd's own metadata."""
    try:
        needs = [Requirement(line) for line in requires("graphkd") or []]
    except PackageNotFoundError:  # a checkout on the path that was never installed
        yield Finding("packages", "graphkd", None, "not installed, so its requirements are not known: pip install -e .")
        return
    core = [need for need in needs if _applies(need, "")]
    for need in core:
        have, fine = _version(need), _satisfied(need)
        remedy = "" if fine else f": pip install '{need.name}{need.specifier}'"
        yield Finding("packages", need.name, fine, f"{have or 'missing'} (needs {need.specifier}){remedy}")
    for extra, gives in _GIVES.items():
        of_extra = [need for need in needs if need not in core and _applies(need, extra)]
        missing = [need.name for need in of_extra if not _satisfied(need)]
        lack = f"; missing {', '.join(missing)}: pip install 'graphkd[{extra}]'" if missing else ""
        if of_extra:
            yield Finding("extras", extra, None if missing else True, f"{gives}{lack}")


def _applies(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})


def _version(need: Requirement) -> str:
    """The version that is installed, or ``""``."""
    try:
        return version(need.name)
    except PackageNotFoundError:
        return ""


def _satisfied(need: Requirement) -> bool:
    have = _version(need)
    return bool(have) and need.specifier.contains(have, prereleases=True)


def _devices() -> Iterator[Finding]:
    import torch

    threads = f"{torch.get_num_threads()} threads; everything runs here, in float32 or bf16"
    yield Finding("devices", "cpu", True, threads)
    for index in range(torch.cuda.device_count()):
        facts: Any = torch.cuda.get_device_properties(index)
        text = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, compute capability {facts.major}.{facts.minor}"
        yield Finding("devices", f"cuda:{index}", True, text)
    if not torch.cuda.is_available():
        why = "torch finds no NVIDIA GPU or driver" if torch.version.cuda else "this torch was built without CUDA"
        yield Finding("devices", "cuda", None, f"not used: {why}")


def _backends() -> Iterator[Finding]:
    """Which backends of the kernels run here; of those that do not, why."""
    from graphkd import ops
    from graphkd.errors import BackendError

    for name in ("eager", "blocked", "triton"):
        try:
            with ops.backend(name):
                yield Finding("kernels", name, True, "runs")
        except BackendError as error:
            yield Finding("kernels", name, None, str(error))


def _plans() -> Iterator[Finding]:
    """Which plan the kernels follow, what is wrong by it, and what they would run for losses of everyday sizes."""
    import torch

    from graphkd import ops

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    table = ops.in_force(device)
    has = f"{len(table.verified)} operations verified" if table.verified else _ADVICE
    source = ", ".join([table.source, *filter(None, [table.other_threads])])
    yield Finding("kernels", "plan", True if table.verified else None, f"{source}: {has}")
    for line in table.failures:
        yield Finding("kernels", "not used", None, line)
    for name, (operation, shapes, options) in _PROBLEMS.items():
        plan: Any = ops.explain(operation, shapes, *options, device=device).plan
        text = f"{operation} {' '.join(options)}: {plan.backend}, {plan.path} ({plan.why})"
        yield Finding(f"what would run on the {device}", name, True, text)
