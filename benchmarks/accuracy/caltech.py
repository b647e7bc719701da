"""Label-free students of the real CLIP ViT-B/32 on Caltech-101: images of 64 x 64, CLIP's embeddings and texts."""

from benchmarks.accuracy import data, students
from benchmarks.accuracy.config import Config, Method, Recipe
from benchmarks.accuracy.study import Problem

RECIPE = Recipe(student="small_resnet", epochs=40, warmup=12.0)

# In the units of PRG's `stable` preset (a mean over samples, a root mean square over edges).
NODE, EDGE = 6.4, 12.3
PRG = {"node_weight": NODE, "edge_weight": EDGE}
KD = {"weight": 1.0, "temperature": 4.0}

METHODS: list[Method] = [
    Method("pseudo-label CE", "prg", {"node_weight": 0.0, "edge_weight": 0.0}),
    Method("KD", "kd", KD),
    Method("mimicking + CE", "mimic", {}),
    Method("KD + mimicking + CE", "combined", {"parts": {"kd": KD, "mimic": {}}}),
    Method("PRG", "prg", PRG),
    Method("true labels", "labels", {}),
]
MORE: list[Method] = [
    Method("PRG, node only", "prg", {**PRG, "edge_weight": 0.0}),
    Method("PRG, edge only", "prg", {**PRG, "node_weight": 0.0}),
    Method("PRG + KD", "combined", {"parts": {"prg": PRG, "kd": KD}}),
    Method("CE + RKD", "combined", {"parts": {"prg": METHODS[0][2], "rkd": {}}}),
    Method("CE + SP", "combined", {"parts": {"prg": METHODS[0][2], "sp": {"on": "embedding"}}}),
    Method("CE + EGA", "combined", {"parts": {"prg": METHODS[0][2], "ega": {"teacher_head": "none"}}}),
    Method("DIST", "dist", {"temperature": 4.0}),
]

# One change at a time from PRG as it stands in METHODS.
ABLATION: list[Method] = [
    Method("PRG", "prg", PRG),
    Method("preset weights 1, 1", "prg", {}),
    Method("weights / 4", "prg", {"node_weight": NODE / 4, "edge_weight": EDGE / 4}),
    Method("weights x 4", "prg", {"node_weight": NODE * 4, "edge_weight": EDGE * 4}),
    Method("CE weight 0.1", "prg", {**PRG, "ce_weight": 0.1}),
    Method("soft pseudo-labels", "prg", {**PRG, "labels": "soft"}),
    Method("node target identity", "prg", {**PRG, "node_target": "identity"}),
    Method("node target teacher gram", "prg", {**PRG, "node_target": "teacher_gram"}),
    Method("nodes: features", "prg", {**PRG, "nodes": "features"}),
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
    Method("projector MLP", "prg", {**PRG, "projector": "mlp"}),
    Method("student proxies: text", "prg", {**PRG, "student_proxy": "text"}),
]


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
