"""One run as plain data: what it trains, how, and with which seed; its digest follows from that."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import torch


@dataclass(frozen=True)
class Recipe:
    """How every student of a study is trained.

    Args:
        student: name of a model of :mod:`benchmarks.accuracy.students`.
        epochs: passes over the images.
        batch: images of one graph.
        accumulate: batches, each a graph of its own, of one update.
        chunk: images that the student sees at once, of which several make a batch and its graph; ``None`` for all.
        lr: highest learning rate of AdamW; linear warm-up, then a cosine to zero.
        warmup: epochs of warm-up.
        weight_decay: of AdamW.
        limit: training images, a fixed random subset, or ``None`` for all.
        precision: of the networks, ``"bf16"`` or ``"no"`` (float32); graphs run in float32 in both.
        compile: one program of student and losses, by ``torch.compile``.
    """

    student: str
    epochs: int
    batch: int = 64
    lr: float = 3e-3
    warmup: float = 0.0
    weight_decay: float = 0.05
    limit: int | None = None
    precision: str = "no"
    accumulate: int = 1
    chunk: int | None = None
    compile: bool = False


LATER = {"accumulate": 1, "chunk": None, "compile": False}
"""Fields of a recipe that the first results were without, and what they were then."""


@dataclass(frozen=True)
class Config:
    """One run.

    Args:
        study: name of the study.
        label: what the tables call the method.
        method: name of a distiller, or ``"labels"`` for the reference trained on true labels.
        options: of the distiller.
        variant: what else of the problem differs between methods: the images of a pool, the weighting of prompts.
        seed: of the student's weights, the order of the images and their augmentation: pairs share it.
        recipe: common to the study.
    """

    study: str
    label: str
    method: str
    seed: int
    recipe: Recipe
    options: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""

    @property
    def digest(self) -> str:
        """Names everything that determines the run; what came later counts where it is set, so older names stay."""
        known = asdict(self)
        known["recipe"] = {key: value for key, value in known["recipe"].items() if LATER.get(key, ...) != value}
        text = json.dumps(known, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Config":
        """The reverse of ``dataclasses.asdict``."""
        return cls(**{**data, "recipe": Recipe(**data["recipe"])})


class Method(NamedTuple):
    """What the tables call it, the distiller's name and options, and what else of the study it changes.

    Args:
        label, name, options, variant: see ``Config``.
        changes: of the study's recipe.
    """

    label: str
    name: str
    options: Mapping[str, Any]
    variant: str = ""
    changes: Mapping[str, Any] = MappingProxyType({})

    def recipe(self, base: Recipe) -> Recipe:
        """The study's recipe with this method's changes."""
        return replace(base, **self.changes)


def grid(study: str, methods: list[Method], recipe: Recipe, seeds: int, first: int = 0) -> list[Config]:
    """Every method with every seed from the first, seed by seed, so that an interrupted study has whole pairs."""
    return [
        Config(study, each.label, each.name, seed, each.recipe(recipe), each.options, each.variant)
        for seed in range(first, first + seeds)
        for each in methods
    ]


def fast_precision() -> str:
    """``"bf16"`` where the hardware multiplies in it, else ``"no"``."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if torch.cpu.get_capabilities().get("avx512_bf16") else "no"
