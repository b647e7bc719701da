"""The published methods: each term is its function times its weight, values by hand, and what is refused."""

from dataclasses import replace

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd import functional as F
from graphkd.distillers.at import ATDistiller
from graphkd.distillers.cc import CCDistiller
from graphkd.distillers.dist import DISTDistiller
from graphkd.distillers.dkd import DKDDistiller
from graphkd.distillers.factory import create_distiller
from graphkd.distillers.fitnet import FitNetDistiller
from graphkd.distillers.fsp import FSPDistiller
from graphkd.distillers.gkd import GKDDistiller
from graphkd.distillers.ickd import ICKDDistiller
from graphkd.distillers.irg import IRGDistiller
from graphkd.distillers.kd import KDDistiller
from graphkd.distillers.mimic import MimicDistiller
from graphkd.distillers.rkd import RKDDistiller
from graphkd.distillers.sp import SPDistiller
from graphkd.errors import MissingFeatureError, OptionError, ShapeError, UnknownNameError
from graphkd.features import Features, Mixture
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


def logits(*shape):
    return Features(logits=torch.zeros(*shape))


WIDE = Features(maps={"layer1": torch.zeros(4, 6, 4, 4), "layer2": torch.zeros(4, 20, 2, 2)})
ODD = {"layer1": torch.zeros(4, 10, 4, 4), "layer2": torch.zeros(4, 7, 2, 2)}
REFUSED = [  # a call with a student and a teacher of 4 samples, the error
    (lambda s, t: KDDistiller(temperature=0.0), OptionError, "temperature of a softmax is > 0, found 0"),
    (lambda s, t: KDDistiller()(logits(2, 3), logits(2, 4)), ShapeError,
     r"student logits \(2, 3\) and teacher logits \(2, 4\) differ: .*same classes"),
    (lambda s, t: DKDDistiller(temperature=-1.0), OptionError, "temperature of a softmax is > 0"),
    (lambda s, t: DKDDistiller()(logits(2, 1), logits(2, 1), target=tensor([0, 0])), ShapeError, "at least 2 classes"),
    (lambda s, t: DISTDistiller(temperature=0.0), OptionError, "temperature of a softmax is > 0, found 0"),
    (lambda s, t: ATDistiller(power=3), OptionError, "even number >= 2, found 3"),
    (lambda s, t: CCDistiller(6, 8, gamma=0.0), OptionError, "the kernel needs gamma > 0 and order >= 1, found 0"),
    (lambda s, t: CCDistiller(6, 8, form="kernels"), UnknownNameError, "form of CC 'kernels'; did you mean 'kernel'"),
    (lambda s, t: CCDistiller(6, 8, form="adjacent")(s, t), ShapeError,
     r"student embeddings \(4, 6\) and teacher embeddings \(4, 8\) differ: project"),
    (lambda s, t: FitNetDistiller([(2, 3)], adapter="none"), ShapeError, "2 channels, teacher maps 3"),
    (lambda s, t: FSPDistiller(maps={"layer1": "layer1"})(s, t), ShapeError, "two maps or more, found 1"),
    (lambda s, t: FSPDistiller()(WIDE, t), ShapeError, r"\(4, 6, 4, 4\) and teacher maps \(4, 10, 4, 4\) differ in channels"),
    (lambda s, t: ICKDDistiller([(2, 3)], adapter="none"), ShapeError,
     "2 channels, teacher maps 3, and adapter='none'.*adapter='conv_bn'"),
    (lambda s, t: ICKDDistiller([(2, 3)], adapter="conv_nb"), UnknownNameError, "'conv_nb'; did you mean 'conv_bn'"),
    (lambda s, t: ICKDDistiller([(9, 10)], maps={"layer1": "layer1"})(s, t), ShapeError,
     r"ICKD was built for student maps of \[9\] channels, found \[10\]: name the pairs"),
    (lambda s, t: ICKDDistiller([(4, 4)])(s, t), ShapeError, r"teacher maps of \[4\] channels, found \[10, 20\]"),
    (lambda s, t: SPDistiller(on="embeding"), UnknownNameError, "part of the features 'embeding'; did you mean 'embed"),
    (lambda s, t: SPDistiller(maps={"layer1": "layer3"})(s, t), UnknownNameError, "one of the maps 'layer3'; did you"),
    (lambda s, t: SPDistiller(maps={})(s, t), OptionError, "no maps to compare"),
    (lambda s, t: SPDistiller()(logits(2, 2), logits(2, 2)), MissingFeatureError, "SP needs features.maps"),
    (lambda s, t: SPDistiller()(s, replace(t, maps={"layer1": t.maps["layer1"]})), ShapeError,
     r"student has 2 \(layer1, layer2\), the teacher 1 \(layer1\): name the pairs"),
    (lambda s, t: SPDistiller()(s, replace(t, mixture=Mixture(torch.arange(4), torch.ones(4)))), OptionError,
     "give the teacher the blended images instead of a store"),
    (lambda s, t: RKDDistiller(angle_weight=-1.0), OptionError, "angle term is a finite number >= 0, found -1"),
    (lambda s, t: RKDDistiller()(logits(2, 3), logits(2, 3)), MissingFeatureError, "RKD needs features.embedding"),
    (lambda s, t: IRGDistiller(maps={"layer1": "layer1"})(s, t), ShapeError, "IRG compares two maps, found 1"),
    (lambda s, t: IRGDistiller()(Features(s.embedding, s.logits, maps=ODD), t), ShapeError,
     "found 7 and 10: choose maps whose channels divide"),
    (lambda s, t: GKDDistiller(power=0), OptionError, "whole numbers >= 1, found 0 and None"),
    (lambda s, t: GKDDistiller(among="sames"), UnknownNameError, "unknown set of edges 'sames'; did you mean 'same'"),
    (lambda s, t: GKDDistiller(among="same")(s, t), MissingFeatureError, "among='same' needs target"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(*networks(4))
