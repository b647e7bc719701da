"""No block of code in README or docs is only printed: Python runs, commands are parsed by the program they name, and
files of options are read by the configuration that takes them."""

import re
import shlex
import tomllib
from importlib.util import find_spec
from itertools import groupby, pairwise
from pathlib import Path

import pytest

from graphkd.cli.app import command_of, parse
from graphkd.cli.main import main
from tests import test_docs, test_readme
from tests.pages import PAGES, ROOT, blocks

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
RUN = "data: photos\nteacher: ViT-B-32\npretrained: openai\nstore: features\n"
SHELL = ("bash", "console")
FILES = ("yaml", "json")


FILES_OF_THE_READER = {
    "run.yaml": RUN,
    "runs/photos-1/run.yaml": RUN,
    "runs/photos-2/run.yaml": RUN,
    "runs/photos-longer/run.yaml": RUN,
    "runs/photos-1/student.json": "{}",
    "runs/photos-1/export/model.onnx": "",
    "runs/photos-1/export/export.json": "{}",
    "runs/teacher/student.json": "{}",
    "runs/photos-1/export/model.int8.onnx": "",
    "new-photos/1.png": "",
    "pool/1.png": "",
    "list.txt": "pool/1.png\n",
    "features/manifest.json": "{}",
    "sorted/cat/1.png": "",
    "cat.jpg": "",
    "runs/digits-1/teacher/config.json": "{}",
    "runs/digits-1/teacher/model.safetensors": "",
    "runs/digits-1/teacher/templates.txt": "a photo of a {}.\n",
    "runs/pictures/run.yaml": RUN,
    "runs/pictures/student.json": "{}",
    "runs/channels/run.yaml": RUN,
    "teacher/config.json": "{}",
    "teacher/model.safetensors": "",
    "teacher/templates.txt": "a photo of a {}.\n",
    "names.txt": "cat\n",
    "clip-out/img_emb/0.npy": "",
    "embeddings.npy": "",
    "texts.npy": "",
    "data/train.parquet": "",
    "imagenet.yaml": RUN,
    "imagenet/train/cat/1.png": "",
    "shards/0.tar": "",
    "photos/cat/1.png": "",
    "more-photos/cat/1.png": "",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the commands of the pages are at home: the program looks whether the files that they name are there."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES_OF_THE_READER.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def commands(block):
    """What a shell block types, command by command: without prompts, comments and continuations, pipes taken apart."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.kind == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        parts = [list(part) for pipe, part in groupby(words, lambda word: word in ("|", "&&", ">")) if not pipe]
        found += parts[:1] if ">" in words else parts
    return found


def check_graphkd(words):
    parse(words)


def check_make(words):
    for target in (word for word in words if "=" not in word):
        assert re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE), f"no target {target}"


def check_pip(words):
    assert words[0] == "install"
    for extra in re.findall(r"\[([\w,-]+)\]", " ".join(words)):
        assert set(extra.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def check_python(words):
    """``-c`` compiles; a module or file exists, and knows the options."""
    if words[0] == "-c":
        compile(words[1], "python -c", "exec")
        return
    if words[0] == "-m" and words[1] == "pip":
        check_pip(words[2:])
        return
    if words[:2] == ["-m", "pytest"]:
        named = [marker for word, marker in pairwise(words) if word == "-m" and marker != "pytest"]
        assert set(named) <= {each.partition(":")[0] for each in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
        assert all((ROOT / word).exists() for word in words if word.startswith("tests/"))
        return
    if words[0] == "-m" and words[1] == "venv":
        return
    path = Path(find_spec(words[1]).origin) if words[0] == "-m" else ROOT / words[0]
    text = path.read_text(encoding="utf-8")
    assert [word for word in words[1:] if word.startswith("--") and f'"{word}"' not in text] == []


def check_launch(words):
    """torchrun or accelerate: what it starts is either our program or a file of the reader's."""
    if "graphkd.cli" in words:
        check_graphkd(words[words.index("graphkd.cli") + 1 :])
    else:
        assert any(word.endswith(".py") for word in words)


PROGRAMS = {
    "graphkd": check_graphkd,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
    "python3": check_python,
    ".venv/bin/python": check_python,
    "torchrun": check_launch,
    "accelerate": check_launch,
    "docker": lambda words: (ROOT / "Dockerfile").stat(),
    "source": lambda words: None,
    "cd": lambda words: None,
    ".ci/run": lambda words: (ROOT / ".ci" / "run").stat(),
}


def test_every_block_is_of_a_kind_that_is_checked():
    assert {each.name: each.kind for each in blocks() if each.kind not in ("python", *SHELL, *FILES)} == {}


def test_nothing_is_code_by_its_indentation():
    """Such a block has no language, so nothing would check it."""
    markdown = pytest.importorskip("markdown")
    html = markdown.Markdown(extensions=["admonition", "fenced_code", "tables", "attr_list"])
    for page in PAGES:
        text = re.sub(r"^```\w+$.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        assert "<pre>" not in html.reset().convert(text), page


def test_every_python_block_runs_in_some_test():
    readme = [each for each in blocks("python") if each.page.name == "README.md" and each.page.parent == ROOT]
    assert [each.text for each in readme] == test_readme.snippets()
    others = {each.page for each in blocks("python")} - {ROOT / "README.md"}
    assert others <= set(test_docs.PAGES)


@pytest.mark.parametrize("block", blocks(*SHELL), ids=lambda block: block.name)
def test_every_command_is_one_that_its_program_takes(block, folder, capsys):
    typed = commands(block)
    assert typed, "a shell block without a command"
    if "\nerror: " in block.text:  # an error that is shown as it is printed
        (words,) = typed
        assert main(words[1:]) == 2
        assert capsys.readouterr().err.strip() in block.text
        return
    for words in typed:
        while re.fullmatch(r"[A-Z_]+=.*", words[0]):  # VARIABLE=value before a command
            words = words[1:]
        assert words[0] in PROGRAMS, f"{words[0]}: unknown program"
        PROGRAMS[words[0]](words[1:])


@pytest.mark.parametrize("block", blocks(*FILES), ids=lambda block: block.name)
def test_every_file_of_options_is_read_by_its_command(block, folder):
    """JSON is YAML, so both are options of ``distill``."""
    (folder / "options.yaml").write_text(block.text)
    parse(["distill", "--config", "options.yaml"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_in_the_text_exists(page):
    for inline in re.findall(r"(?<!`)`graphkd ([a-z][^`\n]*)`", page.read_text(encoding="utf-8")):
        assert command_of(inline.split()) or inline in ("store",)
