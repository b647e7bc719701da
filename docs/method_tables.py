"""Tables of methods and of their options, and the navigation, made from the code and the pages while the site is built.

A page of ``docs/methods`` begins with what the code cannot say: ``group`` in the navigation, ``summary``, ``paper`` and
``graph`` (nodes / edges / alignment), and ``labels`` where a yes or a no is not the whole truth.
"""

import inspect
import re
import sys
from pathlib import Path
from typing import Any, get_args

from mkdocs.utils.meta import get_data

from graphkd.distillers.base import Distiller
from graphkd.distillers.factory import distillers

FOLDER = Path(__file__).parent / "methods"
HEAD = "| method | in one line | paper | nodes / edges / alignment | labels? | over ranks |"


def options(method: type[Distiller]) -> dict[str, Any]:
    """Every option of the constructor with its default; those of ``**graph`` by name, as the graph's class has them."""
    found = dict[str, Any]()
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            (names,) = get_args(parameter.annotation)
            beside = vars(sys.modules[names.__module__]).values()
            classes = [
                each for each in beside if getattr(each, "__module__", "") == names.__module__ and each is not names
            ]
            signatures = [inspect.signature(each).parameters for each in classes if callable(each)]
            (owner,) = [each for each in signatures if names.__annotations__.keys() <= each.keys()]
            found |= {option: owner[option].default for option in names.__annotations__}
        else:
            found[name] = parameter.default
    return found


def meanings(method: type[Distiller]) -> dict[str, str]:
    """What the docstring says of each option."""
    arguments = re.search(r"^Args:\n((?:    .*\n|\n)+)", inspect.getdoc(method) or "", re.MULTILINE)
    found = dict[str, str]()
    for names, text in re.findall(r"^    ([\w, ]+): ((?:.*\n)(?:     .*\n)*)", arguments[1] if arguments else "", re.M):
        text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", " ".join(text.split()).replace("``", "`")).rstrip(".")
        found |= dict.fromkeys(names.split(", "), text.replace("|", r"\|"))
    return found


def option_table(method: type[Distiller]) -> str:
    """Option, default, meaning."""
    said = meanings(method)
    lines = ["| option | default | meaning |", "|---|---|---|"]
    for name, default in options(method).items():
        shown = "required" if default is inspect.Parameter.empty else f"`{default!r}`".replace("'", '"')
        lines.append(f"| `{name}` | {shown} | {said[name]} |")
    return "\n".join(lines)


def about(name: str) -> dict[str, Any]:
    """The head of a method's page."""
    return dict(get_data((FOLDER / f"{name}.md").read_text(encoding="utf-8"))[1])


def method_table() -> str:
    """A line for each registered method."""
    lines = [HEAD, "|---|---|---|---|---|---|"]
    for name in distillers().names():
        method, page = distillers().get(name), about(name)
        labels = page.get("labels", "yes" if "target" in method.needs else "no")
        cells = [
            f"[`{name}`]({name}.md)",
            page["summary"],
            page["paper"],
            page["graph"],
            labels,
            f"`{method.global_batch}`",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def navigation() -> list[Any]:
    """Pages without a group, then the groups."""
    groups = dict[str, list[Any]]()
    for name in distillers().names():
        title = re.search(r"^# ([^:\n]+)", (FOLDER / f"{name}.md").read_text(encoding="utf-8"), re.MULTILINE)
        assert title is not None, f"docs/methods/{name}.md has no title"
        groups.setdefault(about(name).get("group", ""), []).append({title[1]: f"methods/{name}.md"})
    return [*groups.pop("", []), *({group: groups[group]} for group in sorted(groups))]


def on_config(config: Any) -> Any:
    """MkDocs hands over the configuration: the pages of the methods stand after the first two of their part."""
    (part,) = [each["Methods"] for each in config.nav if "Methods" in each]
    part[2:2] = navigation()
    return config


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """MkDocs hands over each page's text."""
    folder, _, name = page.file.src_uri.removesuffix(".md").rpartition("/")
    if folder != "methods":
        return markdown
    table = method_table() if name == "index" else option_table(distillers().get(name))
    return markdown.replace("<!-- table -->", table)
