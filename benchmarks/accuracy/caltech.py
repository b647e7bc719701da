"""Label-free students of the real CLIP ViT-B/32 on Caltech-101: images of 64 x 64, CLIP's embeddings and texts."""

from benchmarks.accuracy import data, students
from benchmarks.accuracy.config import Config, Method, Recipe
from benchmarks.accuracy.study import Problem
from graphkd.data.transforms import CenterView, RandomCropView

RECIPE = Recipe(student="small_resnet", epochs=40, warmup=12.0)

# In the units of PRG's `stable` preset (a mean over samples, a root mean square over edges).
NODE, EDGE = 6.4, 12.3
PRG = {"node_weight": NODE, "edge_weight": EDGE}
KD = {"weight": 1.0, "temperature": 4.0}

METHODS: list[Method] = [
    ("pseudo-label CE", "prg", {"node_weight": 0.0, "edge_weight": 0.0}),
    ("KD", "kd", KD),
    ("mimicking + CE", "mimic", {}),
    ("KD + mimicking + CE", "combined", {"parts": {"kd": KD, "mimic": {}}}),
    ("PRG", "prg", PRG),
    ("true labels", "labels", {}),
]
MORE: list[Method] = [
    ("PRG, node only", "prg", {**PRG, "edge_weight": 0.0}),
    ("PRG, edge only", "prg", {**PRG, "node_weight": 0.0}),
    ("PRG + KD", "combined", {"parts": {"prg": PRG, "kd": KD}}),
    ("CE + RKD", "combined", {"parts": {"prg": METHODS[0][2], "rkd": {}}}),
    ("CE + SP", "combined", {"parts": {"prg": METHODS[0][2], "sp": {"on": "embedding"}}}),
    ("CE + EGA", "combined", {"parts": {"prg": METHODS[0][2], "ega": {"teacher_head": "none"}}}),
    ("DIST", "dist", {"temperature": 4.0}),
]

# One change at a time from PRG as it stands in METHODS.
ABLATION: list[Method] = [
    ("PRG", "prg", PRG),
    ("preset weights 1, 1", "prg", {}),
    ("weights / 4", "prg", {"node_weight": NODE / 4, "edge_weight": EDGE / 4}),
    ("weights x 4", "prg", {"node_weight": NODE * 4, "edge_weight": EDGE * 4}),
    ("CE weight 0.1", "prg", {**PRG, "ce_weight": 0.1}),
    ("soft pseudo-labels", "prg", {**PRG, "labels": "soft"}),
    ("node target identity", "prg", {**PRG, "node_target": "identity"}),
    ("node target teacher gram", "prg", {**PRG, "node_target": "teacher_gram"}),
    ("nodes: features", "prg", {**PRG, "nodes": "features"}),
    ("nodes: logits", "prg", {**PRG, "nodes": "logits"}),
    ("nodes: separate", "prg", {**PRG, "nodes": "separate"}),
    ("nodes: raw", "prg", {**PRG, "nodes": "raw"}),
    ("edges: samples", "prg", {**PRG, "edges": "sample"}),
    ("edges: both", "prg", {**PRG, "edges": "both"}),
    ("edges: full", "prg", {**PRG, "edges": "full"}),
    ("edges centred", "prg", {**PRG, "center_edges": True}),
    ("relation cosine", "prg", {**PRG, "relation": "cosine"}),
    ("edges by KL", "prg", {**PRG, "edge_alignment": "kl"}),
    ("edges by MSE", "prg", {**PRG, "edge_alignment": "mse"}),
    ("edges by Pearson", "prg", {**PRG, "edge_alignment": "pearson"}),
    ("projector MLP", "prg", {**PRG, "projector": "mlp"}),
    ("student proxies: text", "prg", {**PRG, "student_proxy": "text"}),
]


def problem(config: Config) -> Problem:
    """Train on the test images that the text bank covers, score on the covered val images."""
    train, scored = data.caltech()
    return Problem(
        train=train.source,
        scored=scored.source,
        teacher=train.teacher,
        student=lambda: students.make(config.recipe.student, len(train.source.classes or ()), *data.IMAGENET),
        view=RandomCropView(64, padding=6),
        plain=CenterView(64),
    )
