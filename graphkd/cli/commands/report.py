"""graphkd report: pictures and one page of a run; distill ends with the same where their packages are installed."""

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal

from cyclopts import Parameter
from cyclopts.types import Directory, File

from graphkd.cli.console import Console
from graphkd.cli.errors import require
from graphkd.cli.option_groups import Output, require_run
from graphkd.text import shown


@Parameter(name="*")
@dataclass(frozen=True)
class Report:
    """Pictures and one HTML page of a run: curves, relations, graph, spectra, embeddings over the epochs, classes.

    Everything comes from the run folder, also of a run that was interrupted: neither the images nor the teacher are
    needed. The page needs no network and no other file.

    Args:
        run: folder of graphkd distill, or of any Trainer.
        out: the page; default report.html in the run folder.
        pictures: also write each picture into this folder.
        format: of those pictures.

    Example::

        graphkd report runs/photos-1
        graphkd report runs/photos-1 --pictures figures --format svg
    """

    run: Path
    _: KW_ONLY
    out: File | None = None
    pictures: Directory | None = None
    format: Literal["png", "svg"] = "png"
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        require_run(self.run, "run.yaml", "config.json")


def run(config: Report, *, console: Console) -> int:
    """The pictures of a run and one page of them."""
    require_report(asked=True)
    from graphkd.pictures.canvas import save_picture
    from graphkd.pictures.gallery import gallery
    from graphkd.pictures.html import write_html_report

    console.go_on = ("nothing was changed in the run", "run the command again")
    sections = gallery(config.run)
    page = write_html_report(config.run, config.out, sections=sections)
    pictures = [picture for section in sections for picture in section.pictures]
    files = []
    if config.pictures is not None:
        files = [save_picture(each.figure, config.pictures / f"{each.name}.{config.format}") for each in pictures]
    absent = {section.key: section.absent for section in sections if section.absent}
    found = {"report": str(page), "bytes": page.stat().st_size, "pictures": len(pictures), "absent": absent}
    several = "" if len(pictures) == 1 else "s"
    lines = [f"{page}: {len(pictures)} picture{several}, {page.stat().st_size / 2**20:.2f} MiB"]
    lines += [f"  {key}: {reason}" for key, reasons in absent.items() for reason in reasons]
    lines += [f"  {path}" for path in files]
    console.result(found | {"files": [str(path) for path in files]}, "\n".join(map(shown, lines)))
    return 0


def require_report(asked: bool | None, otherwise: str = "") -> bool:
    """Whether to write a report: as asked, else where it can be written.

    Args:
        asked: for one, or for none, or for nothing.
        otherwise: what else can be done where a package is missing.

    Raises: UsageError where it was asked for and a package is missing.
    """
    from graphkd.pictures import missing

    lacking = missing()
    require(
        not (asked and lacking),
        f"a report needs the packages {', '.join(lacking)}, which are not installed",
        f"install them: pip install 'graphkd[report]'{otherwise}",
    )
    return not lacking if asked is None else asked
