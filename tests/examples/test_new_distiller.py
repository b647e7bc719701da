import ast
from pathlib import Path

from tests.distiller_laws import networks

PATH = Path(__file__).parents[2] / "examples" / "new_distiller.py"


def test_new_method_trains_and_is_created_by_name():
    from benchmarks.forms import Runner
    from benchmarks.methods import method
    from examples.new_distiller import train
    from graphkd.distillers.base import DISTILLERS
    from graphkd.distillers.factory import create_distiller

    try:
        first, *_, last = train(steps=60, report=20)
        assert last["neighborhood/edge"] < 0.5 * first["neighborhood/edge"]
        student, teacher = networks(6)
        assert create_distiller("neighborhood", student, teacher)(student, teacher).total.isfinite()
        assert (
            Runner(method("neighborhood"), (8,), "eager").tried()[0].isfinite()
        )  # a benchmark without a line of its own
    finally:  # other tests count the methods of the library
        DISTILLERS._parts.pop("neighborhood", None)


def test_its_class_is_fifteen_lines_at_most():
    text = PATH.read_text(encoding="utf-8")
    (method,) = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    docstring = range(method.body[0].lineno, (method.body[0].end_lineno or 0) + 1)
    lines = text.splitlines()[method.decorator_list[0].lineno - 1 : method.end_lineno]
    code = [
        line
        for number, line in enumerate(lines, method.decorator_list[0].lineno)
        if number not in docstring and line.strip()
    ]
    assert len(code) <= 15
