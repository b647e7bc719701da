"""Label-free students of the real CLIP ViT-B/32 on Caltech-101: images of 64 x 64, CLIP's embeddings and texts."""

from dataclasses import replace

import torch

from benchmarks.accuracy import data, students
from benchmarks.accuracy.choice import trials
from benchmarks.accuracy.config import Config, Method, Recipe
from benchmarks.accuracy.study import Problem

RECIPE = Recipe(student="small_resnet", epochs=40, warmup=12.0)

# Weights in the units of PRG's `literal` preset (a mean over samples, a root mean square over edges), chosen by runs of
# 20 epochs, as those of the baselines were (WEIGHTS).
NODE, EDGE = 10.0, 2.0
PRG = {"nodes": "features", "node_weight": NODE, "edge_weight": EDGE, "kl_weight": 1.0}
TRIAL = {"node_weight": 6.4, "edge_weight": 12.3, "kl_weight": 0.0}
KD = {"weight": 1.0, "temperature": 4.0}
MIMIC = {"feature_weight": 2.0}
ALONE = {"node_weight": 0.0, "edge_weight": 0.0, "kl_weight": 0.0}
ONES = {"node_weight": 1.0, "edge_weight": 1.0, "kl_weight": 0.0}
DEFAULTS = {**ONES, "kl_weight": 1.0}

METHODS: list[Method] = [
    Method("pseudo-label CE", "prg", ALONE),
    Method("KD", "kd", KD),
    Method("mimicking + CE", "mimic", MIMIC),
    Method("KD + mimicking + CE", "combined", {"parts": {"kd": KD, "mimic": MIMIC}}),
    Method("PRG", "prg", PRG),
    Method("true labels", "labels", {}),
]
TERMS: list[Method] = [
    Method("PRG, defaults", "prg", DEFAULTS),
    Method("PRG, node only", "prg", {**PRG, "edge_weight": 0.0}),
    Method("PRG, edge only", "prg", {**PRG, "node_weight": 0.0}),
    Method("PRG without KL", "prg", {**PRG, "kl_weight": 0.0}),
]
MORE: list[Method] = [
    Method("PRG, first trial's weights", "prg", TRIAL),
    Method("CE + RKD", "combined", {"parts": {"prg": ALONE, "rkd": {}}}),
    Method("CE + SP", "combined", {"parts": {"prg": ALONE, "sp": {"on": "embedding"}}}),
    Method("CE + EGA", "combined", {"parts": {"prg": ALONE, "ega": {"teacher_head": "none"}}}),
    Method("DIST", "dist", {"temperature": 4.0}),
]


def _both(weight: float) -> Method:
    parts = {"kd": KD, "mimic": {"feature_weight": weight}}
    return Method(f"KD + mimicking + CE, weight {weight:g}", "combined", {"parts": parts})


# What the baselines' weights were chosen from.
WEIGHTS: list[Method] = [
    *[Method(f"KD, T = {t:g}", "kd", {**KD, "temperature": t}) for t in (2.0, 4.0, 8.0)],
    *[Method(f"mimicking + CE, weight {w:g}", "mimic", {"feature_weight": w}) for w in (1.0, 2.0, 5.0, 20.0)],
    *[_both(weight) for weight in (1.0, 2.0, 5.0, 20.0)],
]

# What both data sets say of the defaults: changes of the literal preset.
LITERAL: list[Method] = [
    Method("literal preset", "prg", ONES),
    Method("literal, with KL", "prg", DEFAULTS),
    Method("literal, weights 6.4, 12.3", "prg", TRIAL),
    Method("literal, weights 6.4, 12.3, with KL", "prg", {**TRIAL, "kl_weight": 1.0}),
    Method("literal, weights 10, 2", "prg", {**ONES, "node_weight": NODE, "edge_weight": EDGE}),
    Method("preset ega", "prg", {"preset": "ega"}),
]

# One change at a time from PRG as it stands in METHODS.
ABLATION: list[Method] = [
    Method("PRG", "prg", PRG),
    Method("without KL", "prg", {**PRG, "kl_weight": 0.0}),
    # The next rows stay as they were measured, with a version that had these options; no run makes them again:
    # projector, edges both and full, nodes separate and raw, center_edges, relation, edge_alignment, student_proxy.
    Method("projector MLP", "prg", {**PRG, "projector": "mlp"}),
    Method("weights / 2", "prg", {**PRG, "node_weight": NODE / 2, "edge_weight": EDGE / 2}),
    Method("weights x 2", "prg", {**PRG, "node_weight": NODE * 2, "edge_weight": EDGE * 2}),
    Method("edge weight x 4", "prg", {**PRG, "edge_weight": EDGE * 4}),
    Method("CE weight 0.2", "prg", {**PRG, "ce_weight": 0.2}),
    Method("soft pseudo-labels", "prg", {**PRG, "labels": "soft"}),
    Method("node target identity", "prg", {**PRG, "node_target": "identity"}),
    Method("node target teacher gram", "prg", {**PRG, "node_target": "teacher_gram"}),
    Method("nodes: features and logits", "prg", {**PRG, "nodes": "blocks"}),
    Method("nodes: features and logits, 4 to 1", "prg", {**PRG, "nodes": "blocks", "rho": 0.8}),
    Method("nodes: logits", "prg", {**PRG, "nodes": "logits"}),
    Method("nodes: separate", "prg", {**PRG, "nodes": "separate"}),
    Method("nodes: raw", "prg", {**PRG, "nodes": "raw"}),
    Method("edges: samples", "prg", {**PRG, "edges": "sample"}),
    Method("edges: both", "prg", {**PRG, "edges": "both"}),
    Method("edges: full", "prg", {**PRG, "edges": "full"}),
    Method("edges centred", "prg", {**PRG, "center_edges": True}),
    Method("relation cosine", "prg", {**PRG, "relation": "cosine"}),
    Method("edges by KL", "prg", {**PRG, "edge_alignment": "kl"}),
    Method("edges by MSE", "prg", {**PRG, "edge_alignment": "mse"}),
    Method("edges by Pearson", "prg", {**PRG, "edge_alignment": "pearson"}),
    Method("student proxies: text", "prg", {**PRG, "student_proxy": "text"}),
    *LITERAL,
]

SIZES = (64, 256, 1024)
# Size of the batch: the same learning rate and epochs, so fewer steps for larger batches.
BATCHES: list[Method] = [
    Method(f"{label}, {size}", name, options, changes={"batch": size})
    for size in SIZES
    for label, name, options in (("KD", "kd", KD), ("PRG", "prg", PRG))
]
# Size of the graph alone: updates and images are those of the large batch, the student sees 64 at once in both forms.
GRAPHS: list[Method] = [
    row
    for size in SIZES[1:]
    for row in (
        Method(f"PRG, {size // 64} graphs of 64", "prg", PRG, changes={"accumulate": size // 64}),
        Method(f"PRG, one graph of {size}", "prg", PRG, changes={"batch": size, "chunk": 64}),
    )
]

# What weights are chosen from for the confirmation; CLIP's logits are as wide as T = 4 asks for.
CHOICE: list[Method] = trials(8.0)
FOLDS = 3


def choice(config: Config) -> Problem:
    """Train on two thirds of the training images, score on the other third; the seed says which, so 0 to 2 are all."""
    base, (train, _) = problem(config), data.caltech()
    order = torch.randperm(len(train.source), generator=torch.Generator().manual_seed(0))
    held = order[config.seed % FOLDS :: FOLDS].tolist()
    kept = sorted(set(range(len(train.source))) - set(held))
    return replace(
        base,
        train=data.subset(train.source, kept),
        scored=data.subset(train.source, held),
        teacher=replace(train.teacher, embedding=train.teacher.embedding[kept]),
    )


def problem(config: Config) -> Problem:
    """Train on the test images that the text bank covers, score on the covered val images."""
    train, scored = data.caltech()
    return Problem(
        train=train.source,
        scored=scored.source,
        teacher=train.teacher,
        student=lambda: students.make(config.recipe.student, len(train.source.classes or ()), *data.IMAGENET),
        padding=6,
    )
