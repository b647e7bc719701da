"""Weights are chosen on images held out of the training set; the choice is confirmed elsewhere, once, with fresh seeds.

    python -m benchmarks.accuracy choose tin100-choice    # every trial, the finalists again, results/chosen.json

Each family of methods has its trials: their labels begin with its name. The held-out images' labels serve this choice
only; a student never sees one.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, Final

from benchmarks.accuracy.config import Method
from benchmarks.accuracy.report import Scores
from graphkd.files import write_file

RESULTS = Path(__file__).with_name("results")
CHOSEN = "chosen.json"
FAMILIES: Final = {"KD, tuned": "KD, ", "sum, tuned": "sum, ", "best candidate": "candidate "}
"""Row of the confirmation -> how the labels of its trials begin."""
FINALISTS, SEEDS = 2, 3


def kd_trials() -> list[Method]:
    """Of KD alone."""
    return [Method(f"KD, T = {t:g}", "kd", {"weight": 1.0, "temperature": t}) for t in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)]


def sum_trials(temperature: float) -> list[Method]:
    """Of KD + mimicking + CE: nine, as of the candidates."""
    low, high = temperature / 2, temperature * 2
    tried = [(temperature, mimic, 1.0) for mimic in (2.0, 5.0, 10.0, 20.0)]
    tried += [(temperature, 5.0, 0.3), (temperature, 10.0, 0.3), (low, 5.0, 1.0), (high, 5.0, 1.0), (high, 20.0, 1.0)]
    return [_sum(*each) for each in tried]


def _sum(t: float, mimic: float, ce: float) -> Method:
    parts = {"kd": {"weight": 1.0, "temperature": t}, "mimic": {"feature_weight": mimic, "ce_weight": ce}}
    return Method(f"sum, T = {t:g}, mimicking {mimic:g}, CE {ce:g}", "combined", {"parts": parts})


def candidate_trials(temperature: float) -> list[Method]:
    """Of the candidates, each beside CE and KL with weight 1."""
    tried: dict[str, dict[str, Any]] = {
        "a: node 2": {"node_weight": 2.0},
        "b: edge 2": {"edge_weight": 2.0},
        "c: node 2, edge 2": {"node_weight": 2.0, "edge_weight": 2.0},
        "c: node 2, edge 4": {"node_weight": 2.0, "edge_weight": 4.0},
        "d: c with image means in the proxies": {"node_weight": 2.0, "edge_weight": 2.0, "beta": 1.0},
        "e: c with half of the remainder": {"node_weight": 2.0, "edge_weight": 2.0, "remainder": 0.5},
        "f: classes 2": {"class_weight": 2.0},
        "a: node 2, match 5": {"node_weight": 2.0, "match_weight": 5.0},
        "c: node 2, edge 2, match 5": {"node_weight": 2.0, "edge_weight": 2.0, "match_weight": 5.0},
    }
    return [
        Method(f"candidate {label}", "candidate", {"kl_temperature": temperature, **options})
        for label, options in tried.items()
    ]


def later_trials(temperature: float) -> list[Method]:
    """By flag, and never chosen: PRG's edges at weights that carry more than 5 %, and (a) without the data set's mean.

    Args:
        temperature: of the KL term beside (a).
    """
    tried = [(1.0, 1.0), (1.0, 2.0), (1.0, 4.0), (2.0, 4.0)]
    alone = {"kl_temperature": temperature, "node_weight": 2.0, "batch_mean": True}
    return [
        *[
            Method(f"PRG, node {node:g}, edge {edge:g}", "prg", {"node_weight": node, "edge_weight": edge})
            for node, edge in tried
        ],
        Method("a, centred by the batch", "candidate", alone),
    ]


def trials(temperature: float) -> list[Method]:
    """All of them.

    Args:
        temperature: of the KL term in sums and candidates; sums also try half and twice that.
    """
    return [*kd_trials(), *sum_trials(temperature), *candidate_trials(temperature)]


def finalists(scores: Scores) -> list[str]:
    """The best of each family by the seeds that all its trials have; they run with all seeds."""
    found = []
    for start in FAMILIES.values():
        family = {label: each for label, each in scores.items() if label.startswith(start)}
        common = set.intersection(*(set(each) for each in family.values())) if family else set()
        ranked = sorted(family, key=lambda label: -mean(family[label][seed] for seed in common))
        found += ranked[:FINALISTS]
    return found


def winners(scores: Scores) -> dict[str, str]:
    """Row of the confirmation -> label of the trial that is best over all seeds, of those that have all."""
    found = {}
    for row, start in FAMILIES.items():
        whole = {
            label: mean(each.values())
            for label, each in scores.items()
            if label.startswith(start) and len(each) >= SEEDS
        }
        if whole:
            found[row] = max(whole, key=lambda label: whole[label])
    return found


def keep(study: str, scores: Scores, results: Path) -> dict[str, str]:
    """Write the winners beside the results."""
    path = results / CHOSEN
    known = json.loads(path.read_text()) if path.is_file() else {}
    known[study] = winners(scores)
    write_file(path, json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    found: dict[str, str] = known[study]
    return found


def chosen_labels(study: str, results: Path = RESULTS) -> dict[str, str]:
    """Row of the confirmation -> label of the trial that was chosen for it; empty before the choice."""
    path = results / CHOSEN
    found: dict[str, str] = json.loads(path.read_text()).get(study, {}) if path.is_file() else {}
    return found


def chosen(study: str, methods: Sequence[Method], results: Path = RESULTS) -> list[Method]:
    """The confirmation's rows; one that is not chosen yet has no method, and cannot run."""
    labels = chosen_labels(study, results)
    by_label = {method.label: method for method in methods}
    return [by_label[labels[row]]._replace(label=row) if row in labels else Method(row, "", {}) for row in FAMILIES]
