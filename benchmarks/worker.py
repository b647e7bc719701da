"""A process that times cases of whichever library it finds, one request after the other.

Each line of its input is a request in JSON, ``{"case", "shape", "form", "repeats"}``, each line of its output the
answer: ``{"ms"}``, or for ``repeats`` 0 ``{"repeats"}``: how many calls a sample needs; or ``{"why"}``.
"""

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

PROGRAM = (sys.executable, "-W", "ignore", "-m", "benchmarks.worker")


class Worker:
    """A worker on the library in a folder, with the benchmarks of this one.

    Args:
        library: folder that holds ``graphkd`` and ``kernels``.
        threads: of torch.
    """

    def __init__(self, library: Path, threads: int) -> None:
        paths = [str(library), str(library / "kernels"), str(Path(__file__).parents[1])]
        threading = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}  # who waits must not spin
        self.process = subprocess.Popen(
            PROGRAM,
            cwd=library,  # before PYTHONPATH: the benchmarks of that folder, if any, must not be found
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), **threading},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer. Raises: RuntimeError if the worker has died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with code {self.process.wait()} at {request}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def _rooms() -> None:
    """Let a version from before the rooms answer under the names of today."""
    if find_spec("graphkd.graphs") is None:
        sys.modules["graphkd.graphs"] = ModuleType("graphkd.graphs")
        for name, earlier in (("align", "ops"), ("alignments", "alignments"), ("relations", "relations")):
            sys.modules[f"graphkd.graphs.{name}"] = import_module(f"graphkd.{earlier}")


def serve() -> None:
    """Answer until the input ends; what libraries print goes to the error stream."""
    answers, sys.stdout = sys.stdout, sys.stderr
    import torch

    _rooms()

    from benchmarks.case import cases
    from benchmarks.forms import Runner
    from benchmarks.timing import sample, turn

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    known, runners = cases(), dict[tuple[Any, ...], Runner]()

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        shape = tuple(request["shape"])
        name = request["case"], shape, request["form"]
        if name not in runners:
            runners.clear()  # the inputs of one case at a time
            runners[name] = Runner(known[request["case"]], shape, request["form"])
            runners[name].tried()
        runner = runners[name]
        with runner.scope():
            if not request["repeats"]:
                return {"repeats": turn(runner)}
            return {"ms": sample(runner, request["repeats"])}

    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:  # an older version may lack anything
            reply = {"why": f"{type(error).__name__}: {error}"[:200]}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
