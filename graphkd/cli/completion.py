"""Scripts that complete a command line on TAB; made from the options, so that TAB starts no Python."""

from collections.abc import Iterator
from pathlib import Path

from graphkd.cli.catalogue import methods
from graphkd.cli.options import Option, options_of
from graphkd.cli.table import COMMANDS, Command

_TEACHERS = ("timm:", "torchvision:", "hf:", "hf-hub:", "local-dir:")


def words_of(command: Command) -> list[str]:
    """Every flag of a command."""
    found = ["--config", "--help"]
    for option in options_of(command.config):
        if not option.positional:
            found.append(option.flag)
            if option.default is True:
                found.append(f"--no-{option.flag[2:]}")
    return found


def values_of(command: str, option: Option) -> list[str]:
    """The values of an option where they are known."""
    if option.name == "method" or (command == "methods" and option.positional):
        return list(methods())
    if option.name == "teacher":
        return list(_TEACHERS)
    return list(option.choices)


def _first_words() -> dict[str, list[str]]:
    """First word -> second words (none for most)."""
    found: dict[str, list[str]] = {}
    for name in COMMANDS:
        first, _, second = name.partition(" ")
        found.setdefault(first, []).extend([second] if second else [])
    return found


def bash() -> str:
    """For bash."""
    lines = ["_graphkd() {", '  local now="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""']
    lines += [
        '  local command="${COMP_WORDS[1]}"',
        '  case "$command" in store) command="store ${COMP_WORDS[2]}";; esac',
    ]
    lines += ['  if ((COMP_CWORD == 1)); then words="' + " ".join([*_first_words(), "--help", "--version"]) + '"']
    for first, seconds in _first_words().items():
        if seconds:
            lines.append(
                f'  elif ((COMP_CWORD == 2)) && [[ $command == "{first} "* ]]; then words="{" ".join(seconds)}"'
            )
    lines += ["  else", '    case "$command $before" in', *_bash_values()]
    lines += ['      *) case "$command" in']
    lines += [f'        "{name}") words="{" ".join(words_of(each))}";;' for name, each in COMMANDS.items()]
    lines += ["      esac;;", "    esac", "  fi", '  COMPREPLY=($(compgen -W "$words" -- "$now"))', "}"]
    return "\n".join([*lines, "complete -o bashdefault -o default -F _graphkd graphkd"])


def _bash_values() -> Iterator[str]:
    for name, command in COMMANDS.items():
        for option in options_of(command.config):
            values = values_of(name, option)
            before = name.partition(" ")[2] or name if option.positional else option.flag
            if values:
                yield f'      "{name} {before}") words="{" ".join(values)}";;'
            elif not option.positional and option.kind is not bool:
                yield f'      "{name} {option.flag}") words="";;'


def zsh() -> str:
    """For zsh, through its own support of bash's scripts."""
    return f"#compdef graphkd\nautoload -U +X bashcompinit && bashcompinit\n{bash()}"


def fish() -> str:
    """For fish."""
    lines = ["complete -c graphkd -f"]
    for name, command in COMMANDS.items():
        first, _, second = name.partition(" ")
        line = _quoted(command.line)
        if not second:
            lines.append(f"complete -c graphkd -n __fish_use_subcommand -a {first} -d {line}")
            seen = f"__fish_seen_subcommand_from {first}"
        else:
            lines.append(f"complete -c graphkd -n __fish_use_subcommand -a {first}")
            lines.append(f"complete -c graphkd -n '__fish_seen_subcommand_from {first}' -a {second} -d {line}")
            seen = f"__fish_seen_subcommand_from {first}; and __fish_seen_subcommand_from {second}"
        lines += [f"complete -c graphkd -n '{seen}' -l config -r -F", f"complete -c graphkd -n '{seen}' -l help"]
        lines += [line for option in options_of(command.config) for line in _fish_option(seen, name, option)]
    return "\n".join(dict.fromkeys(lines))


def _fish_option(seen: str, command: str, option: Option) -> Iterator[str]:
    values = values_of(command, option)
    choices = f" -a '{' '.join(values)}'" if values else ""
    if option.positional:
        yield f"complete -c graphkd -n '{seen}'{choices or ' -F'} -d {_quoted(option.help)}"
        return
    takes = "" if option.kind is bool else f" -r{choices or (' -F' if option.kind is Path else '')}"
    yield f"complete -c graphkd -n '{seen}' -l {option.flag[2:]}{takes} -d {_quoted(option.help)}"
    if option.default is True:
        yield f"complete -c graphkd -n '{seen}' -l no-{option.flag[2:]}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SCRIPTS = {"bash": bash, "zsh": zsh, "fish": fish}
