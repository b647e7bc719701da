"""How long a study will take, from a few measured steps of each of its methods."""

import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.accuracy.config import Config
from benchmarks.accuracy.study import Problem, step_of, train_views

STEPS, START = 3, 12.0
"""Steps timed, after one that is not; seconds in which a process starts and reads its data."""


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
