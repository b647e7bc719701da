"""Students as files of other programs: written, and compared with torch; and an ONNX file read back."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphkd.cli.errors import UsageError, require
from graphkd.data.opening import ImageData
from graphkd.data.transforms import Transform
from graphkd.deploy.sessions import onnx_scores
from graphkd.files import write_file
from graphkd.models.tap import Tap
from graphkd.text import read_json
from graphkd.typing import Float, Tensor

_IMAGES = 64  # of --check that are compared


class Normalised(nn.Module):
    """A student for other programs: images in [0, 1] in, class scores (or an embedding) out; it normalises itself."""

    mean: Tensor
    std: Tensor

    def __init__(self, tap: Tap) -> None:
        super().__init__()
        self.model = tap.model
        for name, default in (("mean", 0.0), ("std", 1.0)):
            value = getattr(tap, name)
            self.register_buffer(name, torch.full((1, 1, 1), default) if value is None else value)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        """Class scores, or the embedding of a backbone."""
        output = self.model((images - self.mean) / self.std)
        scores: Tensor = output["logits"] if isinstance(output, Mapping) else output  # transformers gives a record
        return scores


def images_to_compare(folder: Path | None, view: Transform) -> Float[Tensor, "b 3 h w"]:
    """Random pixels, and images of a folder where one is given."""
    size = view.spec["size"]
    sides = (size, size) if isinstance(size, int) else size
    random = torch.rand(8, 3, *sides, generator=torch.Generator().manual_seed(0))
    if folder is None:
        return random
    source = ImageData(data=folder).pixels()
    step = max(1, len(source) // _IMAGES)
    return torch.cat([random, torch.stack([view(source.image(i)) for i in range(0, len(source), step)])])


def _safetensors(tap: Tap, model: Normalised, images: Tensor, about: dict[str, Any], out: Path) -> Tensor:
    """The plain state dict, checked by a network that is built anew and loads it."""
    from safetensors.torch import load_file, save

    from graphkd.models.students import create_student

    weights = {name: value.detach().contiguous().clone() for name, value in tap.model.state_dict().items()}
    path = out / "model.safetensors"
    write_file(path, save(weights, metadata={"format": "pt"}))
    again = create_student(about["student"], about["num_classes"]).eval() if about["student"] else deepcopy(tap)
    again.model.load_state_dict(load_file(path))
    with torch.no_grad():
        scores: Tensor = Normalised(again)(images)
    return scores


def _onnx(tap: Tap, model: Normalised, images: Tensor, about: dict[str, Any], out: Path) -> Tensor:
    """An ONNX graph for any batch size, checked by onnx and run by onnxruntime."""
    import onnx
    import onnxruntime  # noqa: F401  # missing packages are named before minutes of work
    import onnxscript  # noqa: F401

    path = out / "model.onnx"
    program = torch.onnx.export(
        model,
        (images[:2],),
        dynamo=True,
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        input_names=["images"],
        output_names=["embedding" if about["num_classes"] == 0 else "scores"],
        verbose=False,
    )
    assert program is not None
    write_file(path, lambda temporary: program.save(str(temporary)))
    onnx.checker.check_model(str(path))
    return onnx_scores(path)(images)


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


WRITERS = {"safetensors": _safetensors, "onnx": _onnx, "torch": _torch}


def open_onnx(path: Path) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    """An ONNX model of ``graphkd export``, and what is known of it. Raises: UsageError for damaged files."""
    import onnxruntime  # noqa: F401  # a missing package is no damage

    described, again = path.with_name("export.json"), "export the student again"
    try:
        about = read_json(described)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {described}: {error}", again) from error
    whole = isinstance(about, dict) and {"classes", "size"} <= about.keys()
    require(whole, f"{described} is damaged: it does not describe a student", again)
    try:
        return onnx_scores(path), about
    except Exception as error:  # of onnxruntime, whose classes are not public
        raise UsageError(f"{path} is damaged: {str(error)[:200]}", again) from error
