"""The commands: where each one's configuration and code are."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from graphkd.cli.errors import UsageError, nearest
from graphkd.cli.options import documentation


@dataclass(frozen=True)
class Command:
    """One command.

    Args:
        name: as it is typed; ``"store info"`` has two words.
        group: heading in the overview.
        where: module and class of its configuration.
        module: of its code, whose ``run(config, console)`` returns the exit code.
    """

    name: str
    group: str
    where: tuple[str, str]
    module: str

    @property
    def config(self) -> Any:
        """The dataclass of its options."""
        return getattr(import_module(f"graphkd.cli.configs.{self.where[0]}"), self.where[1])

    @property
    def line(self) -> str:
        """What it does."""
        return documentation(self.config).title


def _command(name: str, group: str, config: str, class_name: str, module: str | None = None) -> Command:
    return Command(name, group, (config, class_name), module or name)


COMMANDS = {
    each.name: each
    for each in (
        _command("embed", "distil", "train", "Embed"),
        _command("distill", "distil", "train", "Distill"),
        _command("evaluate", "look", "look", "Evaluate"),
        _command("inspect", "look", "look", "Inspect"),
        _command("report", "look", "look", "Report"),
        _command("export", "use", "tools", "Export"),
        _command("store info", "stores", "stores", "StoreInfo", "store"),
        _command("store verify", "stores", "stores", "StoreVerify", "store"),
        _command("store repair", "stores", "stores", "StoreRepair", "store"),
        _command("store merge", "stores", "stores", "StoreMerge", "store"),
        _command("methods", "know", "tools", "Methods"),
        _command("conformance", "know", "tools", "Conformance"),
        _command("doctor", "know", "tools", "Doctor"),
        _command("completion", "know", "tools", "Completion"),
    )
}


def find(words: list[str]) -> tuple[Command, list[str]]:
    """The command that a command line names, and the words after it.

    Raises: UsageError with the nearest command.
    """
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            return COMMANDS[name], words[length:]
    inner = [name.partition(" ")[2] for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if inner:
        asked = words[1] if len(words) > 1 and not words[1].startswith("-") else ""
        what = f"unknown command '{words[0]} {asked}'{nearest(asked, inner)}" if asked else f"{words[0]} what?"
        raise UsageError(what, f"graphkd {words[0]} knows: {', '.join(inner)}")
    firsts = [*(name.partition(" ")[0] for name in COMMANDS), "--help", "--version"]
    kind = "option" if words[0].startswith("-") else "command"
    raise UsageError(f"unknown {kind} {words[0]!r}{nearest(words[0], firsts)}", "graphkd --help lists the commands")


def overview(version: str) -> str:
    """What ``graphkd --help`` prints."""
    lines = [f"graphkd {version}: train a small model on what a foundation model knows, by aligning graphs", ""]
    lines += ["graphkd COMMAND --help explains a command, with examples.", ""]
    width = max(map(len, COMMANDS))
    for group in dict.fromkeys(each.group for each in COMMANDS.values()):
        lines.append(f"{group}:")
        lines += [f"  {each.name:{width}}  {each.line}" for each in COMMANDS.values() if each.group == group]
    lines += ["", "start here:", "  graphkd doctor", "  graphkd methods"]
    lines += ["  graphkd distill --data photos --teacher ViT-B-32 --pretrained openai --student resnet18"]
    return "\n".join(lines)
