"""The pictures and the HTML report of a run, where the packages for them are installed."""

from collections.abc import Sequence
from typing import Any

from graphkd.cli.console import Console
from graphkd.cli.errors import UsageError
from graphkd.pictures import missing
from graphkd.training.state import Result


def require_report(asked: bool | None) -> bool:
    """Whether to write a report: as asked, else where it can be written.

    Raises: UsageError where it was asked for and a package is missing.
    """
    lacking = missing()
    if asked and lacking:
        raise UsageError(
            f"a report needs the packages {', '.join(lacking)}, which are not installed",
            "install them: pip install 'graphkd[report]', or add --no-report",
        )
    return not lacking if asked is None else asked


def write_pictures(wanted: bool | None, result: Result, trackers: Sequence[Any], console: Console) -> None:
    """Write the report of a run that is done, and give its pictures to TensorBoard where that tracks the run."""
    if not wanted:
        return
    from graphkd.pictures.gallery import gallery, log_pictures
    from graphkd.pictures.html import write_html_report

    sections = gallery(result.run)
    log_pictures(trackers, [picture for section in sections for picture in section.pictures], result.updates)
    console.remark(f"report: {write_html_report(result.run, sections=sections)}")
