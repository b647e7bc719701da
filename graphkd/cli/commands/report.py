"""graphkd report."""

from graphkd.cli.configs.look import Report
from graphkd.cli.console import Console
from graphkd.cli.reporting import require_report
from graphkd.text import shown


def run(config: Report, console: Console) -> int:
    """The pictures of a run and one page of them."""
    require_report(asked=True)
    from graphkd.pictures.canvas import save_picture
    from graphkd.pictures.gallery import gallery
    from graphkd.pictures.html import write_html_report

    console.go_on = ("nothing was changed in the run", "run the command again")
    sections = gallery(config.run, config.seed)
    page = write_html_report(config.run, config.out, sections=sections, seed=config.seed)
    pictures = [picture for section in sections for picture in section.pictures]
    files = []
    if config.pictures is not None:
        files = [save_picture(each.figure, config.pictures / f"{each.name}.{config.format}") for each in pictures]
    absent = {section.key: section.absent for section in sections if section.absent}
    found = {"report": str(page), "bytes": page.stat().st_size, "pictures": len(pictures), "absent": absent}
    lines = [f"{page}: {len(pictures)} pictures, {page.stat().st_size / 2**20:.2f} MiB"]
    lines += [f"  {key}: {reason}" for key, reasons in absent.items() for reason in reasons]
    lines += [f"  {path}" for path in files]
    console.result(found | {"files": [str(path) for path in files]}, "\n".join(map(shown, lines)))
    return 0
