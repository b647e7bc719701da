"""EIKD: the invariants of its specification, every option, and the hazards."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from graphkd.alignments import FROBENIUS
from graphkd.class_dropping import DatasetClasses, RandomClasses, TopK, TopKOnce, top_class_indices
from graphkd.distillers.eikd import EIKDDistiller
from graphkd.distillers.eikd_implicit import IMPLICIT, Within
from graphkd.errors import MissingFeatureError, OptionError, ShapeError, UnknownNameError
from graphkd.features import Features
from graphkd.functional import class_dropped_kd, explicit_features, implicit_relations, top_classes
from graphkd.noise_matrix import NoiseMatrix

GOLDEN = {
    name: json.loads((Path(__file__).parents[1] / "golden" / f"{name}.json").read_text())
    for name in ("relational", "ega")
}
ONLY_IMPLICIT = {"kd_weight": 0.0, "explicit_weight": 0.0}


def features(n=6, d=5, c=12, *, grad=False, dtype=torch.float64, seed=0):
    draw = torch.Generator().manual_seed(seed)
    embedding, logits, small = (
        torch.randn(*shape, generator=draw, dtype=dtype).requires_grad_(grad)
        for shape in ((n, d), (n, c), (n, 3, 4, 4))
    )
    return Features(embedding=embedding, logits=logits, maps={"m": small})


def pair(**options):
    return features(grad=True, **options), features(d=7, seed=1, **options)


def golden_pair(seed, n, d):
    draw = torch.Generator().manual_seed(seed)
    teacher, student = (torch.randn(n, d, generator=draw, dtype=torch.float64) for _ in range(2))
    student.requires_grad_()
    return Features(embedding=student, logits=student), Features(embedding=teacher, logits=teacher)


@pytest.mark.parametrize("drop", [TopK(16), "off", RandomClasses(0.0)])
def test_the_whole_term_without_dropping_is_the_kd_golden(drop):
    student, teacher = golden_pair(0, 8, 16)
    losses = EIKDDistiller(16, 16, 16, drop=drop)(student, teacher)
    value = GOLDEN["relational"]["methods"]["repdistiller.kd_T4"]["cases"]["seed0_N8_D16"]["value"]
    assert_close(losses["eikd/kd"].item(), value, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("relation", "method"),
    [
        ("sp_raw", "repdistiller.sp"),
        ("rkd_distance", "repdistiller.rkd_distance"),
        ("rkd_angle", "repdistiller.rkd_angle"),
    ],
)
@pytest.mark.parametrize("case", GOLDEN["relational"]["cases"], ids=lambda case: case["id"])
def test_relations_equal_the_goldens(relation, method, case):
    student, teacher = golden_pair(case["seed"], case["N"], case["D"])
    golden = GOLDEN["relational"]["methods"][method]["cases"][case["id"]]
    loss = EIKDDistiller(case["D"], case["D"], case["D"], relation=relation, **ONLY_IMPLICIT)(student, teacher).total
    loss.backward()
    assert_close(loss.item(), golden["value"], rtol=1e-9, atol=1e-12)
    assert_close(student.embedding.grad.norm().item(), golden["grad_norm"], rtol=1e-9, atol=1e-12)


def test_pearson_relation_is_egas_edge_matrix():
    case = next(each for each in GOLDEN["ega"]["cases"] if each["dtype"] == "float64" and not each["correlated"])
    student, teacher = golden_pair(case["seed"], case["N"], case["D"])
    eikd = EIKDDistiller(case["D"], case["D"], case["D"], relation="pearson", **ONLY_IMPLICIT)
    edges = eikd.build(teacher, "teacher").edges("relation", "pearson", "relation").dense()
    assert_close(edges[0, 1].item(), case["probe"]["Et[0,1]"], rtol=1e-9, atol=0)
    assert_close(
        eikd(student, teacher).total.item(), case["alternatives_not_official"]["edge_mean_square"], rtol=1e-9, atol=0
    )
    frobenius = EIKDDistiller(
        case["D"], case["D"], case["D"], relation=Within("pearson", None, FROBENIUS), **ONLY_IMPLICIT
    )
    assert_close(frobenius(student, teacher).total.item(), case["loss_edge"], rtol=1e-9, atol=0)


def test_terms_are_the_published_functions():
    student, teacher = features(grad=True), features(seed=1)
    losses = EIKDDistiller(5, 5, 12, drop=TopK(3))(student, teacher)
    kept = top_classes(teacher.logits, 3)
    assert_close(losses["eikd/kd"], class_dropped_kd(student.logits, teacher.logits, kept, 4.0))
    assert_close(losses["eikd/explicit"], explicit_features(student.embedding, teacher.embedding))
    assert_close(losses["eikd/implicit"], implicit_relations(student.embedding, teacher.embedding))


def test_implicit_ignores_the_scale_of_features_and_explicit_is_zero_at_the_target():
    teacher = features()
    scaled = replace(teacher, embedding=3.7 * teacher.embedding)
    eikd = EIKDDistiller(5, 5, 12)
    assert abs(eikd(scaled, teacher)["eikd/implicit"]) < 1e-15
    assert all(abs(value) < 1e-15 for value in eikd(teacher, teacher).values())
    projected = EIKDDistiller(5, 7, 12).double()
    target = replace(teacher, embedding=projected.features.project(teacher.embedding))
    assert projected(teacher, target)["eikd/explicit"] == 0


@pytest.mark.parametrize("relation", sorted(IMPLICIT))
@pytest.mark.parametrize("explicit", ["features", "unit_features", "smooth_l1", "maps"])
def test_every_option_trains_the_student_only_and_needs_no_label(relation, explicit):
    student, teacher = pair()
    teacher = teacher.map_tensors(lambda value: value.requires_grad_())
    eikd = EIKDDistiller.between(student, teacher, relation=relation, explicit=explicit).double()
    eikd(student, teacher).total.backward()
    assert student.embedding.grad.abs().sum() > 0
    assert student.logits.grad.abs().sum() > 0
    assert all(value.grad is None for value in teacher.tensors())
    if explicit == "maps":
        assert student.maps["m"].grad.abs().sum() > 0


@pytest.mark.parametrize("relation_input", ["embedding", "logits", "kept_logits"])
@pytest.mark.parametrize("relation", ["cosine", "sp_raw", "pearson", "rkd_distance", "rkd_angle", "softmax"])
def test_relation_inputs_are_zero_at_the_teacher_and_ignore_the_batch_order(relation, relation_input):
    student, teacher = features(), features(seed=1)
    eikd = EIKDDistiller(5, 5, 12, relation=relation, relation_input=relation_input, drop=TopK(3), **ONLY_IMPLICIT)
    assert abs(eikd(teacher, teacher).total) < 1e-12
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = (each.map_tensors(lambda value: value[order]) for each in (student, teacher))
    assert_close(eikd(*shuffled).total, eikd(student, teacher).total)


def test_kept_logits_of_all_classes_are_the_logits():
    student, teacher = features(), features(seed=1)
    options = {"drop": "off", **ONLY_IMPLICIT}
    one, other = (EIKDDistiller(5, 5, 12, relation_input=each, **options) for each in ("logits", "kept_logits"))
    assert_close(one(student, teacher).total, other(student, teacher).total)


def test_a_dropped_diagonal_plays_no_part():
    student, teacher = features(), features(seed=1)
    found = EIKDDistiller(5, 5, 12, keep_diagonal=False, **ONLY_IMPLICIT)(student, teacher).total
    rows = []
    for each in (student, teacher):
        unit = each.embedding / each.embedding.norm(dim=1, keepdim=True)
        cosines = (unit @ unit.T).fill_diagonal_(0)
        rows.append(cosines / cosines.norm(dim=1, keepdim=True))
    assert_close(found, (rows[0] - rows[1]).square().mean())
    softmax = EIKDDistiller(5, 5, 12, keep_diagonal=False, relation="softmax", **ONLY_IMPLICIT)(student, teacher).total
    others = [
        (each.embedding / each.embedding.norm(dim=1, keepdim=True))
        @ (each.embedding / each.embedding.norm(dim=1, keepdim=True)).T
        for each in (student, teacher)
    ]
    off = ~torch.eye(6, dtype=torch.bool)
    log_s, log_t = ((each[off].view(6, 5) / 0.1).log_softmax(-1) for each in others)
    assert_close(softmax, (log_t.exp() * (log_t - log_s)).sum(-1).mean())
    with pytest.raises(OptionError, match="no diagonal"):
        EIKDDistiller(5, 5, 12, keep_diagonal=False, relation="infonce")


def test_infonce_finds_the_own_student():
    student, teacher = features(), features(seed=1)
    unit = [each.embedding / each.embedding.norm(dim=1, keepdim=True) for each in (teacher, student)]
    expected = torch.nn.functional.cross_entropy(unit[0] @ unit[1].T / 0.1, torch.arange(6))
    assert_close(EIKDDistiller(5, 5, 12, relation="infonce", **ONLY_IMPLICIT)(student, teacher).total, expected)


def test_auto_weights_are_those_of_the_first_batch_and_are_saved():
    first, later = (features(seed=0), features(seed=1)), (features(seed=2), features(seed=3))
    auto, plain = (EIKDDistiller(5, 5, 12, explicit_weight=2.0, auto_weights=each) for each in (True, False))
    losses = auto(*first)
    assert_close(losses["eikd/explicit"], 2 * losses["eikd/kd"], rtol=1e-6, atol=0)
    assert_close(losses["eikd/implicit"], losses["eikd/kd"], rtol=1e-6, atol=0)
    factor = losses["eikd/implicit"] / plain(*first)["eikd/implicit"]
    assert_close(auto(*later)["eikd/implicit"], factor * plain(*later)["eikd/implicit"], rtol=1e-6, atol=0)
    resumed = EIKDDistiller(5, 5, 12, explicit_weight=2.0, auto_weights=True)
    resumed.load_state_dict(auto.state_dict())
    assert_close(resumed(*later), auto(*later))
    with pytest.raises(OptionError, match="needs kd_weight > 0"):
        EIKDDistiller(5, 5, 12, kd_weight=0.0, auto_weights=True)


def test_auto_weights_wait_for_a_batch_that_has_a_kd_loss():
    teacher = features(seed=1)
    auto = EIKDDistiller(5, 5, 12, auto_weights=True)
    auto(teacher, teacher)
    assert (auto.auto.scales == 0).all()
    auto.eval()(features(), teacher)
    assert (auto.auto.scales == 0).all()
    auto.train()(features(), teacher)
    assert (auto.auto.scales > 0).all()


def test_labels_by_cross_entropy_and_by_noise_matrix():
    student, teacher = features(grad=True), features(seed=1)
    label = teacher.logits.argmax(-1)
    plain = EIKDDistiller(5, 5, 12, label_weight=1.0)(student, teacher)["eikd/label"]
    assert_close(plain, torch.nn.functional.cross_entropy(student.logits, label))
    noise = NoiseMatrix(12, accuracy=0.9)
    assert_close(noise.matrix().sum(-1), torch.ones(12))
    assert_close(noise.matrix().diagonal(), torch.full((12,), 0.9))
    loss = EIKDDistiller(5, 5, 12, label_weight=1.0, labels=noise)(student, teacher)["eikd/label"]
    q = torch.full((12, 12), 0.1 / 11, dtype=torch.float64).fill_diagonal_(0.9)
    assert_close(loss, torch.nn.functional.nll_loss((student.logits.softmax(-1) @ q).log(), label), rtol=1e-6, atol=0)
    loss.backward()
    assert noise.weight.grad.abs().sum() > 0
    assert (noise.weight.grad.diagonal() == 0).all()
    assert not list(EIKDDistiller(5, 5, 12, labels=NoiseMatrix(12, 0.9)).parameters())  # no weight, no parameter


def test_classes_remembered_from_selection_need_the_index():
    student, teacher = features(), features(seed=1)
    pool = torch.randn(40, 12, dtype=torch.float64)
    index = torch.tensor([30, 2, 2, 17, 39, 0])
    eikd = EIKDDistiller(5, 5, 12, drop=TopKOnce(top_class_indices(pool, 4)))
    kept = top_classes(pool, 4)[index]
    assert_close(
        eikd(student, teacher, index=index)["eikd/kd"], class_dropped_kd(student.logits, teacher.logits, kept, 4.0)
    )
    with pytest.raises(MissingFeatureError, match="needs index="):
        eikd(student, teacher)


def test_random_dropping_draws_anew_after_each_training_batch_only():
    student, teacher = features(n=32), features(n=32, seed=1)
    eikd = EIKDDistiller(5, 5, 12, drop=RandomClasses(0.5)).eval()
    assert_close(eikd(student, teacher), eikd(student, teacher))
    eikd.train()
    assert eikd(student, teacher)["eikd/kd"] != eikd(student, teacher)["eikd/kd"]


def test_a_batch_whose_classes_are_all_dropped_is_zero_with_a_graph():
    student, teacher = pair()
    eikd = EIKDDistiller(5, 7, 12, drop=DatasetClasses(torch.zeros(12, dtype=torch.bool)), implicit_weight=0.0).double()
    losses = eikd(student, teacher)
    losses.total.backward()
    assert losses["eikd/kd"] == 0
    assert (student.logits.grad == 0).all()
    assert eikd.classes.single_share == 0
    one = EIKDDistiller(5, 7, 12, drop=TopK(1)).double()
    assert one(student, teacher)["eikd/kd"] == 0
    assert one.classes.single_share == 1


def test_one_dropped_sample_leaves_the_mean():
    student, teacher = features(), features(seed=1)
    keep = torch.ones(12, dtype=torch.bool)
    best = teacher.logits.argmax(-1)
    keep[best[0]] = False
    rest = best != best[0]
    found = EIKDDistiller(5, 5, 12, drop=DatasetClasses(keep))(student, teacher)["eikd/kd"]
    expected = class_dropped_kd(student.logits[rest], teacher.logits[rest], keep.expand(int(rest.sum()), 12), 4.0)
    assert_close(found, expected)


@pytest.mark.parametrize("relation", sorted(IMPLICIT))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("hazard", ["zero", "duplicates", "collapsed", "one", "two", "large"])
def test_degenerate_batches_give_finite_values_and_gradients(relation, dtype, hazard):
    n = {"one": 1, "two": 2}.get(hazard, 6)
    changes = {
        "zero": lambda x: x * 0,
        "duplicates": lambda x: x[[0, 0, 1, 1, 2, 2]],
        "collapsed": lambda x: x[:1].expand_as(x),
        "large": lambda x: x * 1000,
    }
    change = changes.get(hazard, lambda x: x)
    student, teacher = (features(n, seed=seed, dtype=dtype).map_tensors(lambda x: change(x).clone()) for seed in (0, 1))
    student = student.map_tensors(lambda x: x.requires_grad_())
    losses = EIKDDistiller(5, 5, 12, relation=relation, drop="mass")(student, teacher)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    for leaf in (student.embedding, student.logits):
        assert leaf.grad is None or torch.isfinite(leaf.grad).all()


def test_gradcheck_of_the_default():
    teacher = features(4, 3, 5, seed=1)
    eikd = EIKDDistiller(3, 3, 5, drop=TopK(3)).eval()

    def total(embedding, logits):
        return eikd(Features(embedding=embedding, logits=logits), teacher).total

    student = features(4, 3, 5, grad=True)
    assert torch.autograd.gradcheck(total, (student.embedding, student.logits))


@pytest.mark.parametrize("options", [{}, {"auto_weights": True, "drop": "stochastic"}, {"relation": "infonce"}])
def test_compiles_without_a_break(options):
    student, teacher = pair(dtype=torch.float32)
    eikd = EIKDDistiller(5, 7, 12, **options)
    twin = EIKDDistiller(5, 7, 12, **options)
    twin.load_state_dict(eikd.state_dict())
    compiled = torch.compile(eikd, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        assert_close(dict(compiled(student, teacher)), dict(twin(student, teacher)))


def test_weight_zero_removes_the_term_and_its_projector():
    assert list(EIKDDistiller(5, 7, 12, explicit_weight=0.0).parameters()) == []
    assert set(EIKDDistiller(5, 7, 12, explicit_weight=0.0).terms) == {"kd", "implicit"}
    assert len(list(EIKDDistiller(5, 7, 12, explicit_weight=0.0, relation="cross").parameters())) == 2
    student = features()
    assert EIKDDistiller(5, 5, 12, implicit_weight=0.0, explicit_weight=0.0)(student, student).keys() == {"eikd/kd"}


def test_bad_input_is_named():
    student, teacher = pair()
    with pytest.raises(ShapeError, match="embeddings of width 9, found 5"):
        EIKDDistiller(9, 7, 12)(student, teacher)
    with pytest.raises(ShapeError, match=r"student logits \(6, 12\) and teacher logits \(6, 10\)"):
        EIKDDistiller(5, 7, 12).double()(student, replace(teacher, logits=teacher.logits[:, :10]))
    with pytest.raises(MissingFeatureError, match="EIKD needs features.logits"):
        EIKDDistiller(5, 7, 12).double()(student, replace(teacher, logits=None))
    with pytest.raises(UnknownNameError, match="did you mean 'topk'"):
        EIKDDistiller(5, 7, 12, drop="top_k")
    with pytest.raises(UnknownNameError, match="did you mean 'pearson'"):
        EIKDDistiller(5, 7, 12, relation="pearsn")
    with pytest.raises(UnknownNameError, match="did you mean 'features'"):
        EIKDDistiller(5, 7, 12, explicit="feature")
    with pytest.raises(UnknownNameError, match="kept_logits"):
        EIKDDistiller(5, 7, 12, relation_input="kept")
    with pytest.raises(OptionError, match="softmax is > 0"):
        EIKDDistiller(5, 7, 12, temperature=0.0)
    with pytest.raises(OptionError, match="relation_input='embedding'"):
        EIKDDistiller(5, 7, 12, relation="cross", relation_input="logits")
    with pytest.raises(OptionError, match="accuracy in"):
        NoiseMatrix(10, 1.0)


def test_the_honest_label_stands_in_the_docstring():
    label = "EIKD-style: reconstructed from the abstract and the DFND protocol; not a reproduction."
    assert label in " ".join(EIKDDistiller.__doc__.split())
