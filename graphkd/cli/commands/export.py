"""graphkd export."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphkd.cli.config_file import write_config
from graphkd.cli.configs.tools import Export
from graphkd.cli.console import Console
from graphkd.cli.networks import open_student
from graphkd.cli.parse import resolved
from graphkd.data.opening import ImageData
from graphkd.data.transforms import CenterView
from graphkd.files import write_file, write_json
from graphkd.models.tap import Tap
from graphkd.typing import Float, Tensor

_IMAGES = 64  # of --check that are compared


class Normalised(nn.Module):
    """A student for other programs: images in [0, 1] in, class scores out; the normalisation is inside."""

    mean: Tensor
    std: Tensor

    def __init__(self, tap: Tap) -> None:
        super().__init__()
        self.model = tap.model
        for name, default in (("mean", 0.0), ("std", 1.0)):
            value = getattr(tap, name)
            self.register_buffer(name, torch.full((1, 1, 1), default) if value is None else value)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        """Class scores."""
        output = self.model((images - self.mean) / self.std)
        scores: Tensor = output["logits"] if isinstance(output, Mapping) else output  # transformers gives a record
        return scores


def run(config: Export, console: Console) -> int:
    """A student to files that other programs read."""
    tap, about = open_student(config.run, config.which)
    out = config.out or config.run / "export"
    console.go_on = (f"finished files are kept in {out}", "run the same command again")
    model = Normalised(tap).eval().requires_grad_(False)
    images = _images(config, about["size"])
    with torch.no_grad():
        expected = model(images)
    writers = {"safetensors": _safetensors, "onnx": _onnx, "torch": _torch}
    checks = {}
    for name in config.formats:
        found = writers[name](tap, model, images, about, out)
        checks[name] = {
            "largest_difference": float((found - expected).abs().max()),
            "same_top1": int((found.argmax(1) == expected.argmax(1)).sum()),
            "images": len(images),
        }
    good = all(each["largest_difference"] <= config.tolerance for each in checks.values())
    facts = {**about, "input": "images (b, 3, size, size) in [0, 1]", "checks": checks, "tolerance": config.tolerance}
    write_json(out / "export.json", facts)
    write_config(out / "run.yaml", "export", resolved(config))
    console.result({"folder": str(out), "good": good, **facts}, _text(out, checks, about, good))
    return 0 if good else 1


def _images(config: Export, size: int) -> Float[Tensor, "b 3 h w"]:
    """Random pixels, and images of ``--check`` where it was given."""
    random = torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(0))
    if config.check is None:
        return random
    source, view = ImageData(data=config.check).pixels(), CenterView(size)
    step = max(1, len(source) // _IMAGES)
    return torch.cat([random, torch.stack([view(source.image(i)) for i in range(0, len(source), step)])])


def _safetensors(tap: Tap, model: Normalised, images: Tensor, about: dict[str, Any], out: Path) -> Tensor:
    """The plain state dict, checked by a network that is built anew and loads it."""
    from safetensors.torch import load_file, save

    from graphkd.models.students import create_student

    weights = {name: value.detach().contiguous().clone() for name, value in tap.model.state_dict().items()}
    path = out / "model.safetensors"
    write_file(path, save(weights, metadata={"format": "pt"}))
    again = create_student(about["student"], about["num_classes"]).eval()
    again.model.load_state_dict(load_file(path))
    with torch.no_grad():
        scores: Tensor = Normalised(again)(images)
    return scores


def _onnx(tap: Tap, model: Normalised, images: Tensor, about: dict[str, Any], out: Path) -> Tensor:
    """An ONNX graph for any batch size, checked by onnx and run by onnxruntime."""
    import onnx
    import onnxruntime
    import onnxscript  # noqa: F401  # torch's exporter needs it: missing, it is named before minutes of work

    path = out / "model.onnx"
    program = torch.onnx.export(
        model,
        (images[:2],),
        dynamo=True,
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        input_names=["images"],
        output_names=["scores"],
        verbose=False,
    )
    assert program is not None
    write_file(path, lambda temporary: program.save(str(temporary)))
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _torch(tap: Tap, model: Normalised, images: Tensor, about: dict[str, Any], out: Path) -> Tensor:
    """A program of torch.export for any batch size, read back and run."""
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (images[:2],), dynamic_shapes={"images": {0: batch}})
    path = out / "model.pt2"
    program_bytes = BytesIO()
    torch.export.save(program, program_bytes)
    write_file(path, program_bytes.getvalue())
    with torch.no_grad():
        scores: Tensor = torch.export.load(path).module()(images)
    return scores


def _text(out: Path, checks: dict[str, Any], about: dict[str, Any], good: bool) -> str:
    files = {"safetensors": "model.safetensors", "onnx": "model.onnx", "torch": "model.pt2"}
    lines = [
        f"{out / files[name]}: scores differ by at most {each['largest_difference']:.1e}, "
        f"top-1 the same for {each['same_top1']} of {each['images']}"
        for name, each in checks.items()
    ]
    if "safetensors" in checks and not about["student"].startswith("torchvision/"):
        path = out / files["safetensors"]
        call = f'timm.create_model("{about["student"]}", num_classes={about["num_classes"]}, checkpoint_path="{path}")'
        lines.append(f"load it with {call}")
    if not good:
        lines.append("the check failed: a difference is larger than --tolerance")
    return "\n".join(lines)
