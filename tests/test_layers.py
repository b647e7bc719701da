"""Dependencies point downward only: the arrows of the design, from the imports in the source."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [  # low to high; names of modules and packages below graphkd, or of whole folders
    "graphkd_kernels",
    "text typing",
    "errors",
    "registry files",
    "features losses",
    "ops",
    "distributed",
    "checks",
    "graphs",
    "models",
    "teachers",
    "data",
    "distillers",
    "functional",
    "conformance",
    "chunks",
    "step",
    "training",
    "deploy",
    "integrations",
    "pictures",
    "cli",
    "examples benchmarks",
]
DOOR = "graphkd/ops.py"  # the only one in graphkd that imports the kernels
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names.split()}


def layer(module: str) -> str:
    """The name by which the table knows a module."""
    parts = module.split(".")
    return parts[1] if parts[0] == "graphkd" and len(parts) > 1 else parts[0]


def imports(path: Path) -> set[str]:
    """Our modules that a file imports anywhere, also inside functions; those for types only do not count."""
    found = set()
    tree = ast.parse(path.read_text())
    for block in [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    ]:
        block.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "graphkd":  # a module, or a name of the public surface
            found |= {f"graphkd.{alias.name}" for alias in node.names if alias.name in LEVEL}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name for name in found if name.split(".")[0] in ("graphkd", "graphkd_kernels") and name != "graphkd"}


FILES = {
    path.relative_to(base): path
    for base, folder in (
        (ROOT, "graphkd"),
        (ROOT / "kernels", "graphkd_kernels"),
        (ROOT, "examples"),
        (ROOT, "benchmarks"),
    )
    for path in sorted((base / folder).rglob("*.py"))
    if path.parts[-2:] != ("graphkd", "__init__.py")
}


@pytest.mark.parametrize("name", FILES, ids=str)
def test_imports_point_downward(name):
    own = layer(".".join(name.with_suffix("").parts))
    assert own in LEVEL, f"{name}: place {own!r} in LAYERS"
    for module in imports(FILES[name]):
        other = layer(module)
        assert other in LEVEL, f"{name} imports {module}: place {other!r} in LAYERS"
        assert LEVEL[other] <= LEVEL[own], f"{name} imports {module}, which is a layer above it"
        assert own != "graphkd_kernels" or other == own, f"{name} imports {module}: the kernels know nothing of graphkd"
        assert other != "graphkd_kernels" or name.as_posix() == DOOR or name.parts[0] != "graphkd", (
            f"{name}: use graphkd.ops"
        )


def arrows(base: Path, folder: str) -> dict[str, set[str]]:
    """Every module of a package, and the modules of it that it imports anywhere."""
    paths = {".".join(path.relative_to(base).with_suffix("").parts): path for path in (base / folder).rglob("*.py")}
    paths = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    found: dict[str, set[str]] = {name: set() for name in paths}
    for name, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in paths:
                found[name] |= {
                    own if (own := f"{node.module}.{each.name}") in paths else node.module for each in node.names
                }
    return found


def test_the_kernels_have_no_circle():
    found = arrows(ROOT / "kernels", "graphkd_kernels")
    assert "graphkd_kernels.reference.rows" in found["graphkd_kernels.reference.row_kl"]
    TopologicalSorter(found).prepare()  # or names a circle


def test_few_modules_stand_beside_the_rooms():
    assert len([path for path in (ROOT / "graphkd").glob("*.py") if path.name != "__init__.py"]) <= 12
