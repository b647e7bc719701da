"""Configurations of the other commands: export, store, conformance, methods, doctor, completion."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from graphkd.cli.catalogue import methods
from graphkd.cli.errors import UsageError, unknown_name
from graphkd.cli.options import POSITIONAL
from graphkd.cli.parts import Output, require_new_folder, require_run

FORMATS = ("safetensors", "onnx", "torch")


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a distilled student for other programs, and check that they compute the same.

    model.safetensors is a plain state dict, which timm.create_model(NAME, checkpoint_path=...) loads. model.onnx and
    model.pt2 (torch.export) take images in [0, 1] of any batch size and normalise them inside. export.json holds class
    names, sizes and the differences found. Exit code 1 if a check fails.

    Args:
        run: run folder of graphkd distill.
        out: folder to write to; default: export/ in the run folder.
        formats: what to write, of safetensors, onnx, torch.
        which: the last checkpoint of the run, or the best on the images it was scored on.
        tolerance: largest difference of a logit from torch's.
        check: folder of images to compare on, beside random pixels.

    Example::

        graphkd export runs/photos-1
        graphkd export runs/photos-1 --formats onnx --check more-photos --out exported
    """

    run: Annotated[Path, POSITIONAL]
    out: Path | None = None
    formats: tuple[str, ...] = FORMATS
    which: Literal["last", "best"] = "last"
    tolerance: float = 1e-4
    check: Path | None = None
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        require_run(self.run)
        require_new_folder("out", self.out)
        for name in self.formats:
            if name not in FORMATS:
                raise unknown_name("format", name, FORMATS)
        if not self.formats:
            raise UsageError("--formats names nothing to write", f"give some of {', '.join(FORMATS)}")
        if not self.tolerance > 0:
            raise UsageError(f"--tolerance must be > 0, found {self.tolerance}", "give --tolerance 1e-4")
        if self.check is not None and not self.check.is_dir():
            raise UsageError(f"there is no folder --check {self.check}", "give a folder of images")


@dataclass(frozen=True, kw_only=True)
class Conformance:
    """Compare our losses with values that the official implementations computed; exit code 1 if one differs.

    Args:
        golden: folder of golden files, or one file; they are in tests/golden of a checkout.
        markdown: also write the table to this file.

    Example::

        graphkd conformance
        graphkd conformance --golden tests/golden/ega.json
    """

    golden: Path = Path("tests/golden")
    markdown: Path | None = None
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        if not (self.golden.is_file() or any(self.golden.glob("*.json"))):
            raise UsageError(
                f"no golden file (*.json) in --golden {self.golden}", "give tests/golden of a checkout of graphkd"
            )


@dataclass(frozen=True, kw_only=True)
class Methods:
    """Every method with one line and its paper; with a name, all that there is to know of one.

    Args:
        name: a method.

    Example::

        graphkd methods
        graphkd methods prg
    """

    name: Annotated[str, POSITIONAL] = ""
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        if self.name and self.name not in methods():
            raise unknown_name("method", self.name, list(methods()))


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Versions, devices, kernels' backends and extras: what will run here, what will not, and why.

    Exit code 1 if something that the core needs is missing or too old.

    Example::

        graphkd doctor
        graphkd doctor --json
    """

    output: Output = field(default_factory=Output)


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Print a script that completes commands, options and their values on TAB.

    Args:
        shell: bash, zsh or fish.

    Example::

        # bash: now, and in every shell from now on
        source <(graphkd completion bash)
        graphkd completion bash > ~/.local/share/bash-completion/completions/graphkd

        # zsh, into a folder of $fpath; fish
        graphkd completion zsh > ~/.zfunc/_graphkd
        graphkd completion fish > ~/.config/fish/completions/graphkd.fish
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], POSITIONAL]
    output: Output = field(default_factory=Output)
