"""What a release is made of agrees with itself: the version, the citation, the templates, and the two gates."""

import re
import tomllib
from pathlib import Path

import yaml

import graphkd

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
SEMANTIC = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]


def read(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_version_is_semantic_and_stands_in_one_place():
    assert re.fullmatch(SEMANTIC, graphkd.__version__)
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "graphkd/__init__.py"


def test_the_changelog_has_the_form_that_it_names():
    versions = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", CHANGELOG, flags=re.MULTILINE)
    assert versions[0] == ("Unreleased", "")
    assert all(re.fullmatch(SEMANTIC, name) and date for name, date in versions[1:])
    assert len(re.findall(r"^## ", CHANGELOG, flags=re.MULTILINE)) == len(versions)
    assert graphkd.__version__ in {name for name, _ in versions} or f"Towards {graphkd.__version__}." in CHANGELOG
    for part in CHANGELOG.split("\n## ")[1:]:
        kinds = re.findall(r"^### (.*)$", part, flags=re.MULTILINE)
        assert kinds == [kind for kind in KINDS if kind in kinds]


def test_the_citation_is_that_of_this_version():
    citation = read("CITATION.cff")
    project = PROJECT["project"]
    said = {"cff-version": "1.2.0", "type": "software", "title": project["name"], "version": graphkd.__version__}
    said |= {key: project[key] for key in ("license", "authors")}
    assert {key: citation[key] for key in said} == said
    assert citation.keys() - said <= {
        "abstract",
        "date-released",
        "doi",
        "keywords",
        "message",
        "repository-code",
        "url",
    }


def test_the_workflow_runs_the_gate_on_the_python_of_the_constraints():
    workflow = read(".github/workflows/ci.yml")
    (job,) = workflow["jobs"].values()
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert runs == ["bash .ci/run"]
    assert job["runs-on"].startswith("ubuntu")
    (python,) = (step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", ""))
    assert f"CPython {python}" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert workflow["permissions"] == {"contents": "read"}


def test_every_tool_of_the_gate_is_an_extra_with_a_tested_version():
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    extras = PROJECT["project"]["optional-dependencies"]
    tools = [re.split(r"[><=\[;]", each)[0] for extra in ("test", "docs", "dev") for each in extras[extra]]
    assert "twine" in tools
    assert [tool for tool in tools if f"\n{tool.lower()}==" not in pinned] == []


def test_the_oldest_environment_has_the_declared_minima():
    pins = dict(
        re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8"), re.M)
    )
    declared = dict(each.split(">=") for each in PROJECT["project"]["dependencies"])
    for name, version in declared.items():
        found = next(pin for other, pin in pins.items() if other.lower().replace("_", "-") == name.replace("_", "-"))
        assert f"{found}.".startswith(f"{version}."), f"{name}: {version} is declared, {found} is tested"


def test_the_hooks_run_what_lint_runs():
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    entries = [hook["entry"].split(" --")[0].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    asked = [line.strip().removeprefix("$(BIN)/").removesuffix(" .") for line in lint.splitlines()[1:]]
    assert entries == [each.replace(" --check", "") for each in asked] == ["ruff check", "ruff format", "mypy"]


def test_every_file_that_a_template_names_exists():
    folder = ROOT / ".github"
    text = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.*"))
    named = set(re.findall(r"\b(?:docs/[\w-]+\.md|[A-Z]+\.md|\.ci/run)", text))
    assert "docs/faq.md" in named
    assert [name for name in named if not (ROOT / name).exists()] == []
