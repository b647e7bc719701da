"""``python -m benchmarks.accuracy.one CONFIG FILE``: one run in a process of its own, whose bits depend on no other."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.accuracy import studies
from benchmarks.accuracy.config import Config
from benchmarks.accuracy.study import run, versions
from graphkd.files import write_json


def measure(config: Config) -> dict[str, object]:
    """The record of one run: configuration, result, versions."""
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    found = run(config, studies.PROBLEMS[config.study](config))
    return {"config": asdict(config), "result": found, "versions": versions()}


if __name__ == "__main__":
    asked = Config.of(json.loads(sys.argv[1]))
    write_json(Path(sys.argv[2]), measure(asked))
