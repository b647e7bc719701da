"""Results of studies, one JSON Lines file a study and one line a run; runs side by side, and how long they will take.

``python -m benchmarks.accuracy.runs CONFIG RESULTS`` is one run in a process of its own, whose bits depend on no other.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.config import Config
from benchmarks.accuracy.study import Problem, run, step_of, train_views, versions

Record = dict[str, Any]
"""``config``, ``result`` and ``versions`` of a run"""

STEPS, START = 3, 12.0
"""Steps timed, after one that is not; seconds in which a process starts and reads its data."""


def read(results: Path, studies: Iterable[str]) -> dict[str, Record]:
    """Digest of a configuration -> its record, for all results of these studies."""
    lines = [line for name in set(studies) if (path := results / f"{name}.jsonl").is_file() for line in path.open()]
    return {Config.of(record["config"]).digest: record for record in map(json.loads, lines)}


def add(results: Path, config: Config, result: dict[str, Any]) -> None:
    """Append a run's line, in one write, so that runs side by side do not mix theirs."""
    record = {"config": asdict(config), "result": result, "versions": versions()}
    results.mkdir(parents=True, exist_ok=True)
    with open(results / f"{config.study}.jsonl", "ab", buffering=0) as file:
        file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")


def waiting(configs: Sequence[Config], results: Path) -> list[Config]:
    """Those that have no result yet."""
    known = read(results, (config.study for config in configs))
    return [config for config in configs if config.digest not in known]


def finish(configs: Sequence[Config], results: Path, processes: int) -> None:
    """Run what has no result yet, a process each, some at a time; an interrupted study goes on where it stopped."""
    todo = waiting(configs, results)
    print(f"{len(configs) - len(todo)} of {len(configs)} runs have results, {len(todo)} to do", flush=True)
    running: dict[subprocess.Popen[bytes], Config] = {}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.accuracy.runs"]
    try:
        while todo or running:
            while todo and len(running) < processes:
                asked = json.dumps(asdict(todo[0]))
                process = subprocess.Popen([*command, asked, results], env={**os.environ, "OMP_NUM_THREADS": "1"})
                running[process] = todo.pop(0)
            time.sleep(0.2)
            for process in [each for each in running if each.poll() is not None]:
                _report(running.pop(process), process.returncode, results)
    finally:
        for process in running:
            process.terminate()


def _report(config: Config, code: int, results: Path) -> None:
    name = f"{config.study}: {config.label}, seed {config.seed}"
    if code:
        raise SystemExit(f"{name} failed (exit {code}): its message stands above; the runs before it are kept")
    result = read(results, [config.study])[config.digest]["result"]
    print(f"{name}: {result['top1']:.2f} % in {result['seconds']:.0f} s", flush=True)


def measure(config: Config) -> dict[str, Any]:
    """The result of one run, on one thread where there is no GPU."""
    from benchmarks.accuracy.studies import STUDIES

    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    return run(config, STUDIES[config.study].problem(config))


def estimate(configs: Sequence[Config], problem: Callable[[Config], Problem], processes: int) -> float:
    """Seconds that these runs take side by side, on this machine as busy as it is now."""
    pace: dict[str, float] = {}
    for config in configs:
        if config.label not in pace:
            pace[config.label] = seconds_a_run(config, problem(config))
            print(f"  {config.label}: about {pace[config.label]:.0f} s a run", flush=True)
    return sum(pace[config.label] for config in configs) / min(processes, len(configs))


def seconds_a_run(config: Config, problem: Problem) -> float:
    """Of one: its training and, at a third of the price, its scoring."""
    per_image = step_seconds(config, problem) / config.recipe.batch
    return START + per_image * (config.recipe.epochs * len(problem.train) + len(problem.scored) / 3)


def step_seconds(config: Config, problem: Problem) -> float:
    """The median of a few steps."""
    step, views = step_of(config, problem), train_views(config, problem)
    step.to(views.device).train()
    batches, found = iter(views.loader(config.recipe.batch)), []
    for _ in range(min(STEPS + 1, len(views) // config.recipe.batch)):
        batch, began = next(batches), time.perf_counter()
        features = problem.look(batch) if step.distillers else None
        with torch.autocast(views.device.type, torch.bfloat16, enabled=config.recipe.precision == "bf16"):
            losses = step(batch.student, features, target=batch.target, index=batch.index)
        losses.total.backward()
        if views.device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return sorted(found[1:] or found)[len(found[1:]) // 2]


if __name__ == "__main__":
    asked = Config.of(json.loads(sys.argv[1]))
    add(Path(sys.argv[2]), asked, measure(asked))
