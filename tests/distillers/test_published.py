"""The published methods: each term is its function times its weight, values by hand, and what is refused."""

import pytest
import torch
from torch.testing import assert_close

from graphkd import functional as F
from graphkd.distillers.cc import CCDistiller
from graphkd.distillers.factory import create_distiller
from graphkd.distillers.fitnet import FitNetDistiller
from graphkd.distillers.fsp import FSPDistiller
from graphkd.distillers.gkd import GKDDistiller
from graphkd.distillers.ickd import ICKDDistiller
from graphkd.distillers.mimic import MimicDistiller
from graphkd.features import Features
from tests.distiller_laws import beside, features, networks


def both(function, s, t, factor, **options):
    """A function of maps, summed over both pairs."""
    return factor * sum(function(s.maps[name], t.maps[name], **options) for name in s.maps)


TERMS = [  # method, options, its terms
    ("kd", {"temperature": 2.0}, lambda s, t, y: {"kl": 0.9 * F.kd(s.logits, t.logits, temperature=2.0)}),
    ("dkd", {"alpha": 2.0, "beta": 3.0, "temperature": 1.5}, lambda s, t, y: {
        "target": 2 * F.dkd_target(s.logits, t.logits, y, temperature=1.5),
        "non_target": 3 * F.dkd_non_target(s.logits, t.logits, y, temperature=1.5)}),
    ("dkd", {"beta": 0.0}, lambda s, t, y: {"target": F.dkd_target(s.logits, t.logits, y)}),
    ("dist", {"beta": 2.0, "gamma": 3.0, "temperature": 4.0}, lambda s, t, y: {
        "inter": 2 * F.dist_inter(s.logits, t.logits, temperature=4.0),
        "intra": 3 * F.dist_intra(s.logits, t.logits, temperature=4.0)}),
    ("sp", {}, lambda s, t, y: {"similarity": both(F.similarity_preserving, s, t, 3000)}),
    ("sp", {"maps": {"layer2": "layer1"}, "weight": 1.0}, lambda s, t, y: {
        "similarity": F.similarity_preserving(s.maps["layer2"], t.maps["layer1"])}),
    ("sp", {"on": "embedding", "weight": 1.0}, lambda s, t, y: {
        "similarity": F.similarity_preserving(s.embedding, t.embedding)}),
    ("cc", {"gamma": 0.7, "order": 3, "weight": 1.0}, lambda s, t, y: {
        "congruence": F.correlation_congruence(s.embedding, t.embedding, gamma=0.7, order=3)}),
    ("at", {}, lambda s, t, y: {"attention": both(F.attention_transfer, s, t, 1000)}),
    ("fitnet", {"maps": {"layer1": "layer1"}, "adapter": "none"}, lambda s, t, y: {
        "hint": 100 * F.fitnet(s.maps["layer1"], t.maps["layer1"])}),
    ("ickd", {"adapter": "none", "weight": 1.0}, lambda s, t, y: {"correlation": both(F.ickd, s, t, 1)}),
    ("nst", {"maps": {"layer1": "layer2"}}, lambda s, t, y: {
        "selectivity": 50 * F.nst(s.maps["layer1"], t.maps["layer2"])}),
    ("pkt", {}, lambda s, t, y: {"divergence": 30000 * F.pkt(s.embedding, t.embedding)}),
    ("rkd", {}, lambda s, t, y: {
        "distance": 25 * F.rkd_distance(s.embedding, t.embedding),
        "angle": 50 * F.rkd_angle(s.embedding, t.embedding)}),
    ("irg", {"vertex_weight": 2.0, "edge_weight": 3.0, "transformation_weight": 1.0}, lambda s, t, y: {
        "vertex": 2 * F.fitnet(s.logits, t.logits),
        "edge_feature": F.irg_edge(s.embedding, t.embedding),
        **{f"edge_map{i}": F.irg_edge(s.maps[name], t.maps[name]) for i, name in enumerate(s.maps)},
        "transformation": F.irg_transformation(tuple(s.maps.values()), tuple(t.maps.values()))}),
    *(("gkd", how, lambda s, t, y, how=how: {"adjacency": both(F.gkd, s, t, 25 / 2, **how)})
      for how in ({"power": 3}, {"power": 2, "neighbors": 3}, {"power": 1, "neighbors": 100})),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "terms"), TERMS, ids=[f"{name}-{options}" for name, options, _ in TERMS])
def test_a_term_is_the_function_times_its_weight(name, options, terms):
    (student, teacher), target = networks(9), beside(9)["target"]
    found = create_distiller(name, student, teacher, **options)(student, teacher, target=target)
    assert_close(dict(found), {f"{name}/{term}": value for term, value in terms(student, teacher, target).items()})


def test_fitnets_adapter_is_convolution_norm_and_relu():
    student, teacher = Features(maps={"a": torch.randn(3, 2, 4, 4)}), Features(maps={"b": torch.zeros(3, 5, 4, 4)})
    value = FitNetDistiller.between(student, teacher, weight=1.0)(student, teacher).total
    assert 0.3 < value < 0.7  # the mean square of a normalised value behind a ReLU is 1/2


def test_ickds_adapter_leads_to_the_teachers_channels_and_is_trained():
    student, teacher = Features(maps={"a": torch.randn(3, 2, 4, 4)}), Features(maps={"b": torch.randn(3, 5, 2, 2)})
    distiller = ICKDDistiller.between(student, teacher, maps={"a": "b"})
    distiller(student, teacher).total.backward()
    assert distiller.adapters[0][0].weight.shape == (5, 2, 1, 1)
    assert distiller.adapters[0][0].weight.grad.abs().sum() > 0


def test_the_adjacent_form_of_cc_is_its_function():
    student, teacher = features(9, 1), features(9, 2)
    found = CCDistiller.between(student, teacher, form="adjacent", weight=1.0)(student, teacher).total
    assert_close(found, F.correlation_congruence_adjacent(student.embedding, teacher.embedding))


def test_layers_on_both_sides_are_trained_in_cc():
    student, teacher = networks(9)
    distiller = CCDistiller.between(student, teacher, form="adjacent", embed_dim=4).double()
    distiller(student, teacher).total.backward()
    assert all(each.grad.abs().sum() > 0 for each in distiller.parameters())
    assert {len(each) for each in distiller.parameters()} == {4}


def test_feature_term_of_mimic_compares_student_and_teacher():
    student, teacher = networks(9)
    distiller = MimicDistiller.between(student, teacher).double()
    s, t = distiller.projector(student.embedding), teacher.embedding
    expected = (2 - 2 * torch.cosine_similarity(s, t)).mean()
    assert_close(distiller(student, teacher)["mimic/feature"], expected)


def test_fsp_is_its_function_of_maps_of_one_size():
    student, teacher = networks(9)
    small = Features(maps={"layer1": teacher.maps["layer1"], "layer2": teacher.maps["layer2"][:, :, :2, :2]})
    expected = 50 * F.fsp(list(student.maps.values()), list(small.maps.values()))
    assert_close(FSPDistiller()(student, small).total, expected)


def test_gkds_edges_within_and_between_classes_add_up():
    student, teacher = networks(9)
    found = {kind: GKDDistiller(among=kind)(student, teacher, **beside(9)).total for kind in ("all", "same", "other")}
    assert_close(found["same"] + found["other"], found["all"])
    assert 0 < found["same"] < found["all"]


def test_degrees_below_zero_stay_finite_in_gkd():
    student, teacher = networks(2)
    opposite = torch.cat([student.maps["layer1"][:1], -student.maps["layer1"][:1]]).requires_grad_()
    GKDDistiller(maps={"layer1": "layer1"})(Features(maps={"layer1": opposite}), teacher).total.backward()
    assert opposite.grad.isfinite().all()
