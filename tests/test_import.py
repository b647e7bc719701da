"""``import graphkd`` costs nothing, and its public surface is the one written down."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import graphkd
from graphkd import _HOME
from graphkd.distillers.factory import distillers

HEAVY = (
    "torch",
    "torch_geometric",
    "torchvision",
    "open_clip",
    "timm",
    "accelerate",
    "matplotlib",
    "sklearn",
    "triton",
)
ROOT = Path(__file__).parents[1]


def run(code):
    paths = [str(ROOT), str(ROOT / "kernels")]
    code = f"import sys; sys.path[:0] = {paths!r}\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_loads_nothing_heavy():
    code = f"import graphkd; dir(graphkd); print([name for name in {HEAVY} if name in sys.modules])"
    assert run(code).strip() == "[]"


def test_a_method_loads_nothing_of_training():
    light = tuple(name for name in HEAVY if name in ("open_clip", "accelerate", "matplotlib", "sklearn"))
    code = f"from graphkd import PRGDistiller, Step; print([name for name in {light} if name in sys.modules])"
    assert run(code).strip() == "[]"


@pytest.mark.parametrize("name", graphkd.__all__)
def test_every_public_name_resolves(name):
    found = getattr(graphkd, name)
    home = import_module(_HOME[name]) if name in _HOME else graphkd
    assert found is getattr(home, name)
    assert found.__doc__, f"{name} has no docstring"


def test_the_surface_is_the_one_written_down():
    written = json.loads((Path(__file__).parent / "api_surface.json").read_text())
    found = sorted([*graphkd.__all__, *(f"distillers.{name}" for name in distillers().names())])
    assert found == written, "the public surface changed: edit tests/api_surface.json in the same review"


def test_type_checkers_see_the_same_names():
    source = (ROOT / "graphkd" / "__init__.py").read_text()
    for name, home in _HOME.items():
        assert f"from {home} import {name} as {name}\n" in source


def test_an_unknown_name_and_the_list_of_the_known():
    assert set(graphkd.__all__) <= set(dir(graphkd))
    with pytest.raises(AttributeError, match="module 'graphkd' has no attribute 'Tapp'"):
        _ = graphkd.Tapp
