"""Every error of the command line as two lines: what is wrong, and what to do."""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches

from cyclopts import Argument, CycloptsError, MissingArgumentError, UnusedCliTokensError

from graphkd.errors import GraphKDError, OptionError, UnknownNameError
from graphkd.training.config import LONGER

_LISTED, _WIDTH = 8, 180  # names that a line lists where all of them would be wider than so many characters
_VERBS = (
    "add|ask|build|call|change|check|choose|copy|delete|divide|download|embed|expected|free|get|give|install|launch|"
    "leave|let|look|lower|make|name|open|pass|please|point|put|raise|remove|repair|restore|resume|run|save|say|see|set|start|take|"
    "train|try|unpack|use|wrap|write"
)
_REMEDY = re.compile(rf"(?<= )(\S+)(?:: |; |\. |\? )(?=(?:{_VERBS})\b|each line is|without network)", re.IGNORECASE)
_ASIDE = re.compile(r" \(for some of its samples only:.*\)$")
_LONG = re.compile(rf"\(([^()]{{{_WIDTH},}})\)")
_CALL = re.compile(r"\buse CLIPTeacher\('([^']*)', ([^()]*)\)")  # a call in Python, where options are meant
_KEYWORD = re.compile(r"\b([a-z][a-z0-9_]*)=((?:'[^']*'|\"[^\"]*\"|[\w./-]+)?)")
_PHRASES = {  # what the library says to programmers, and what it is here
    "fit(resume=True)": "--resume",
    "resume it, or choose another run folder": "add --resume to go on with it, or choose another --run",
    "Add a term on the logits (a KD or PRG distiller, or task=...) or freeze the head": (
        "add --labels task, or choose a --method with a term on the logits, such as prg or kd, "
        "or leave the head out: --student-head none"
    ),
    LONGER: "start a new run with its weights: add --init RUN --run ANOTHER, and leave --resume out",
    "use pretrained=False, or init= a file of weights": "leave --student-pretrained out, or give --init FILE",
    "ask for unreadable images to be skipped": "give --on-error skip",
}
_OFFERS = {  # what the library says of options that a command may not have
    "on_error": re.compile(r",? or ask for unreadable images to be skipped"),
    "max_megapixels": re.compile(r", allow it with max_megapixels=[\d.]+"),
}
_EXTRAS = {
    "accelerate": "train",
    "tqdm": "train",
    "tensorboard": "train",
    "matplotlib": "report",
    "jinja2": "report",
    "sklearn": "train",
    "transformers": "integrations",
    "lightning": "integrations",
    "pyarrow": "parquet",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
}


class UsageError(OptionError):
    """A command cannot run as asked.

    Args:
        what: one line, what is wrong.
        todo: one line, what to do.
    """

    def __init__(self, what: str, todo: str) -> None:
        super().__init__(f"{what}: {todo}")
        self.what, self.todo = what, todo


def nearest(name: str, known: Collection[str]) -> str:
    """``"; did you mean 'prg'?"``, or nothing where no name is near."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def require(holds: bool, what: str, todo: str) -> None:
    """Raises: UsageError of these two lines where it does not hold."""
    if not holds:
        raise UsageError(what, todo)


def shortened(name: str, known: Collection[str]) -> str:
    """All names, or of a long list those that are near."""
    names = list(known)
    if len(", ".join(names)) <= _WIDTH:
        return ", ".join(names)
    near = get_close_matches(name, names, n=_LISTED, cutoff=0.4)
    shown = list(dict.fromkeys([*near, *names]))[:_LISTED]
    return f"{', '.join(shown)} and {len(names) - len(shown)} others"


def explained(error: BaseException, options: Mapping[str, Argument], command: str) -> tuple[str, str] | None:
    """What is wrong and what to do; ``None`` for an error that nobody foresaw.

    Args:
        error: raised by a command or by the library, whose messages name what to do last.
        options: of the command by name; the library's ``name=value`` is written as its flag.
        command: such as ``"distill"``.
    """
    if isinstance(error, UsageError):
        return _line(error.what), _line(error.todo)
    if isinstance(error, CycloptsError):
        return _of_the_words(error, options, command)
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        extra = f"pip install 'graphkd[{_EXTRAS[package]}]'" if package in _EXTRAS else f"pip install {package}"
        return f"this command needs the package {package!r}, which is not installed", f"install it: {extra}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory: {_line(str(error))[:200]}".rstrip(": "), "lower --batch-size, or --size of the images"
    if isinstance(error, OSError):
        place = f" ({error.filename})" if error.filename else ""
        return f"{_line(error.strerror or str(error))}{place}", "check the path, its permissions, and the free space"
    if not isinstance(error, GraphKDError):
        return None
    what, todo = _split(error, options, command)
    return _as_flags(what, options), _as_flags(todo, options)


def _of_the_words(error: CycloptsError, options: Mapping[str, Argument], command: str) -> tuple[str, str]:
    """What cyclopts says, and the help of the option that it speaks of."""
    program = f"graphkd {command}".rstrip()
    name = error.argument.name if error.argument else ""
    text = next((without_markup(each.parameter.help or "") for each in options.values() if each.name == name), None)
    if isinstance(error, UnusedCliTokensError):
        what = f"unexpected argument {(error.unused_tokens or [''])[0]!r}"
        return what, f"options are written --name value; {program} --help lists every option"
    if text is None:
        what = str(error).partition(" Available commands")[0]
        return _line(what).rstrip("."), f"{program} --help lists every {'option' if command else 'command'}"
    missing = isinstance(error, MissingArgumentError)
    return f"{program} needs a value of {name}" if missing else _line(str(error)).rstrip("."), f"{name}: {text}"


def _split(error: GraphKDError, options: Mapping[str, Argument], command: str) -> tuple[str, str]:
    text = str(error)
    if "Original Traceback" in text:  # of a process that loads images: its last line is the error
        text = text.strip().splitlines()[-1].partition(": ")[2]
    text = _LONG.sub(lambda found: f"({', '.join(found.group(1).split(', ')[:5])}, ...)", _line(text))
    if isinstance(error, UnknownNameError):
        what, mark, known = _line(str(error)).partition(" Known: ")
        if mark:
            asked = re.search(r"'([^']*)'", what)
            listed = shortened(asked.group(1) if asked else "", known.split(", "))
            return what.rstrip("."), f"choose one of {listed}"
    if found := _REMEDY.search(text):
        todo = _ASIDE.sub("", text[found.end() :]).removeprefix("Please ")
        if "out" in options and "store" not in options:
            todo = todo.replace("--store", "--out")
        return text[: found.end(1)], todo
    first = text.partition(" ")[0]
    if first in options:
        return text, f"{flag_of(first)}: {without_markup(options[first].parameter.help or '')}"
    return text, f"graphkd {command} --help explains every option"


def _as_flags(text: str, options: Mapping[str, Argument]) -> str:
    """The library says ``layout='flat'``; here that is ``--layout flat``."""

    def flag(found: re.Match[str]) -> str:
        name, value = found.group(1), found.group(2).strip("'\"")
        if name not in options:
            return found.group(0)
        if value in ("True", "False"):
            negative = f"no_{name}" if options[name].hint in (bool, bool | None) else f"{name} no"
            return flag_of(name) if value == "True" else flag_of(negative)
        return f"{flag_of(name)} {value}".strip()

    for name, offer in _OFFERS.items():
        text = text if name in options else offer.sub("", text)
    for phrase, spoken in _PHRASES.items():
        text = text.replace(phrase, spoken)
    text = _CALL.sub(lambda found: f"give --teacher {found.group(1)} " + found.group(2).replace(", ", " "), text)
    text = _KEYWORD.sub(flag, text)
    first, space, rest = text.partition(" ")
    return f"{flag_of(first)}{space}{rest}" if first in options and rest.startswith("must") else text


def flag_of(name: str) -> str:
    """``batch_size`` as it is typed: ``--batch-size``."""
    return "--" + name.replace("_", "-")


def without_markup(text: str, flow: bool = True) -> str:
    """A docstring's text as a terminal shows it; as one line, unless its lines are to stay."""
    text = re.sub(r":\w+:`[~.]?([^`]*)`", r"\1", text).replace("``", "").replace(".. math::", "")
    return _line(text) if flow else text


def _line(text: str) -> str:
    return " ".join(text.split())
