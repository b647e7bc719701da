"""graphkd export: a student as files that other programs read."""

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from cyclopts import Parameter
from cyclopts.types import Directory, ExistingDirectory, PositiveFloat

from graphkd.cli.console import Console
from graphkd.cli.errors import require
from graphkd.cli.option_groups import STUDENT, Output, require_run
from graphkd.registry import unknown

FORMATS = {"safetensors": "model.safetensors", "onnx": "model.onnx", "torch": "model.pt2"}
_INPUT = "images (b, 3, size, size) in [0, 1]"


@Parameter(name="*")
@dataclass(frozen=True)
class Export:
    """Write a distilled student for other programs, and check that they compute the same.

    model.safetensors is a plain state dict, which timm.create_model(NAME, checkpoint_path=...) loads. model.onnx and
    model.pt2 (torch.export) take images in [0, 1] of any batch size and normalise them inside. export.json holds class
    names, sizes and the differences found. Exit code 1 if a check fails.

    --int8 adds model.int8.onnx, whose weights and activations are 8-bit integers, and says what that changes: answers,
    accuracy where there are labels, size, and the time of one image on this machine.

    A backbone without classes (--student-head none) gives its embedding where others give class scores.

    Args:
        run: run folder of graphkd distill.
        model_from: function that builds the network of a run whose student is a module of your own, as
            package.module:function; it is called without arguments.
        out: folder to write to; default: export/ in the run folder.
        formats: what to write, of safetensors, onnx, torch.
        tolerance: largest difference of a logit, or of a number of an embedding, from torch's.
        check: folder of images to compare on, beside random pixels.
        int8: also write model.int8.onnx, in 8-bit integers.
        calibration: folder of images that fix the ranges of its activations; default: the run's own.

    Example::

        graphkd export runs/photos-1
        graphkd export runs/photos-1 --int8
        graphkd export runs/photos-1 --formats onnx --check more-photos --out exported
    """

    run: Path
    _: KW_ONLY
    model_from: str | None = None
    out: Directory | None = None
    formats: tuple[str, ...] = tuple(FORMATS)
    tolerance: PositiveFloat = 1e-4
    check: ExistingDirectory | None = None
    int8: bool = False
    calibration: ExistingDirectory | None = None
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        require_run(self.run, STUDENT)
        for name in self.formats:
            if name not in FORMATS:
                raise unknown("format", name, list(FORMATS))
        what = f"--out {self.out} is a run folder, whose files would be overwritten"
        is_run = self.out is not None and (self.out / STUDENT).is_file()
        require(not is_run, what, "give another folder, or leave --out out: export/ in the run folder")
        require(bool(self.formats), "--formats names nothing to write", f"give some of {', '.join(FORMATS)}")
        require(not self.int8 or "onnx" in self.formats, "--int8 is made from model.onnx", "add onnx to --formats")
        require(self.int8 or self.calibration is None, "--calibration is for --int8", "give --int8 too")


def run(config: Export, *, console: Console) -> int:
    """A student to files that other programs read."""
    import torch

    from graphkd.cli import config_file, exported, int8, networks, opened
    from graphkd.files import one_writer, write_json

    tap, about = networks.open_student(config.run, config.model_from)
    alike = not config.int8 or about["num_classes"] != 0
    require(alike, "--int8 compares class scores, and this student is a backbone without classes", "leave --int8 out")
    out = config.out or config.run / "export"
    console.go_on = (f"finished files are kept in {out}", "run the same command again")
    model = exported.Normalised(tap).eval().requires_grad_(False)
    view = opened.student_view(about, config.run)
    images = exported.images_to_compare(config.check, view)
    with torch.no_grad():
        expected = model(images)
    of_int8 = int8.images_of(config.run, config.calibration, about) if config.int8 else None
    with one_writer(out):
        (out / "export.json").unlink(missing_ok=True)  # written last: what an interrupted export leaves is not read
        (out / int8.FILE).unlink(missing_ok=True)  # an earlier one may be of other weights
        checks = {}
        for name in config.formats:
            found = exported.WRITERS[name](tap, model, images, about, out)
            checks[name] = {
                "largest_difference": float((found - expected).abs().max()),
                "same_top1": int((found.argmax(1) == expected.argmax(1)).sum()),
                "images": len(images),
            }
        good = all(each["largest_difference"] <= config.tolerance for each in checks.values())
        facts = {**about, "input": _INPUT, "checks": checks, "tolerance": config.tolerance}
        lines = [_text(out, checks, about, good)]
        if of_int8 is not None:
            facts["int8"] = int8.write_int8(*of_int8, view, out, console)
            lines += int8.text(facts["int8"], out)
        write_json(out / "export.json", facts)
        config_file.save(out, "export", config)
    console.result({"folder": str(out), "good": good, **facts}, "\n".join(lines))
    return 0 if good else 1


def _text(out: Path, checks: dict[str, Any], about: dict[str, Any], good: bool) -> str:
    what = "embeddings" if about["num_classes"] == 0 else "scores"
    lines = [
        f"{out / FORMATS[name]}: {what} differ by at most {each['largest_difference']:.1e}"
        + (f", top-1 the same for {each['same_top1']} of {each['images']}" if about["num_classes"] else "")
        for name, each in checks.items()
    ]
    if "safetensors" in checks and not str(about["student"] or "torchvision/").startswith(("torchvision/", "hf:")):
        path = out / FORMATS["safetensors"]
        call = f'timm.create_model("{about["student"]}", num_classes={about["num_classes"]}, checkpoint_path="{path}")'
        lines.append(f"load it with {call}")
    if not good:
        lines.append("the check failed: a difference is larger than --tolerance")
    return "\n".join(lines)
