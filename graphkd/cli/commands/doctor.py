"""graphkd doctor."""

import os
import platform
import re
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from graphkd.cli.configs.tools import Doctor
from graphkd.cli.console import Console

_REQUIREMENT = re.compile(r"^([\w.-]+)(?:\[\w+\])?\s*(?:>=\s*([\d.]+))?[^;]*(?:;\s*extra\s*==\s*['\"](\w+)['\"])?$")
_GIVES = {
    "train": "distill, progress bars, TensorBoard, the digits",
    "detection": "the detection example",
    "report": "pictures and HTML reports: graphkd report, graphkd inspect --pictures",
    "export": "ONNX: graphkd export, graphkd evaluate --model model.onnx",
    "integrations": "Lightning, Hugging Face, webdataset",
    "trackers": "Weights & Biases, MLflow",
}
_BACKENDS = ("eager", "blocked", "triton")
_PROBLEMS = {  # losses that one meets, as operation, shapes and options of graphkd_kernels.explain
    "256 images x 1000 classes": ("edge_sum", [(256, 512), None, (1000, 512), None], ("pearson", "square")),
    "4096 images": ("edge_sum", [(4096, 512), None, (4096, 512), None], ("cosine", "square")),
}


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, whether it is fine (``None``: it is optional and absent), and the facts."""

    topic: str
    name: str
    fine: bool | None
    text: str


def run(config: Doctor, console: Console) -> int:
    """What runs here and why."""
    found = [_python(), *_packages(), *_devices(), *_backends(), *_plans()]
    good = all(each.fine is not False for each in found)
    lines = []
    for topic in dict.fromkeys(each.topic for each in found):
        lines.append(f"{topic}:")
        each_of = [each for each in found if each.topic == topic]
        width = max(len(each.name) for each in each_of)
        lines += [f"  {_mark(each.fine)} {each.name:{width}}  {each.text}" for each in each_of]
    lines.append(
        "everything that the core needs is here" if good else "something that the core needs is missing: see !!"
    )
    console.result({"good": good, "findings": [asdict(each) for each in found]}, "\n".join(lines))
    return 0 if good else 1


def _mark(fine: bool | None) -> str:
    return {True: "ok", False: "!!", None: "--"}[fine]


def _python() -> Finding:
    text = f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} processors"
    return Finding("machine", "python", sys.version_info >= (3, 11), text)


def _packages() -> list[Finding]:
    """Every package of the core, and of each extra whether it is complete."""
    extras: dict[str, list[tuple[str, str]]] = {}
    for line in _requirements():
        if match := _REQUIREMENT.match(line):
            name, least, extra = match.groups()
            extras.setdefault(extra or "", []).append((name, least or "0"))
    found = []
    for name, least in extras.pop("", []):
        have = _version(name)
        fine = have is not None and _numbers(have) >= _numbers(least)
        remedy = "" if fine else f": pip install '{name}>={least}'"
        found.append(Finding("packages", name, fine, f"{have or 'missing'} (needs {least}){remedy}"))
    for extra, gives in _GIVES.items():
        missing = [name for name, least in extras.get(extra, []) if _numbers(_version(name) or "0") < _numbers(least)]
        if extra in extras:
            lack = f"; missing {', '.join(missing)}: pip install 'graphkd[{extra}]'" if missing else ""
            found.append(Finding("extras", extra, None if missing else True, f"{gives}{lack}"))
    return found


def _requirements() -> list[str]:
    try:
        return requires("graphkd") or []
    except PackageNotFoundError:  # a checkout on the path that was never installed
        return ["torch>=2.11", "torchvision>=0.26", "torch_geometric>=2.8", "open_clip_torch>=3.2", "timm>=1.0.20"]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


def _devices() -> list[Finding]:
    try:
        import torch
    except ImportError:
        return [Finding("devices", "torch", False, "missing: pip install torch")]
    found = [
        Finding("devices", "cpu", True, f"{torch.get_num_threads()} threads; everything runs here, in float32 or bf16")
    ]
    for index in range(torch.cuda.device_count()):
        facts: Any = torch.cuda.get_device_properties(index)
        text = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, compute capability {facts.major}.{facts.minor}"
        found.append(Finding("devices", f"cuda:{index}", True, text))
    if not torch.cuda.is_available():
        why = (
            "this torch was built without CUDA" if torch.version.cuda is None else "torch finds no NVIDIA GPU or driver"
        )
        found.append(Finding("devices", "cuda", None, f"not used: {why}"))
    return found


def _backends() -> list[Finding]:
    """Which backends of the kernels run here; of those that do not, why."""
    try:
        from graphkd import ops
    except ImportError as error:
        return [Finding("kernels", "graphkd_kernels", False, str(error))]
    from graphkd.errors import BackendError

    found = []
    for name in _BACKENDS:
        try:
            with ops.backend(name):
                found.append(Finding("kernels", name, True, "runs"))
        except BackendError as error:
            found.append(Finding("kernels", name, None, str(error)))
    return found


def _plans() -> list[Finding]:
    """What the kernels would run for losses of everyday sizes, as their own plans say, where this version has plans."""
    try:
        import graphkd_kernels
        import torch
    except ImportError:
        return []
    explain: Any = getattr(graphkd_kernels, "explain", None)
    if explain is None:
        return []
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = []
    for name, (operation, shapes, options) in _PROBLEMS.items():
        plan = explain(operation, shapes, *options, device=device).plan
        text = f"{operation} {' '.join(options)}: {plan.backend}, {plan.path} ({plan.why})"
        found.append(Finding(f"what would run on the {device}", name, True, text))
    return found
