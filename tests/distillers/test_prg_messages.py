"""PRG: what it says of options and inputs that it cannot use, and how it sizes itself."""

import pytest

from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.errors import MissingFeatureError, OptionError, ShapeError, TeacherError, UnknownNameError
from graphkd.features import Features
from tests.distillers.prg_case import DS, DT, PARTS, C, features, make, student, teacher

LABEL = (
    "PRG-style: reconstructed from the abstract and third-party summaries, with EGA-type node and edge losses; "
    "not PRG as published."
)


def test_the_label_stands_in_the_docstring():
    assert LABEL in " ".join(PRGDistiller.__doc__.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "stabel"}, "unknown preset 'stabel'; did you mean 'stable'. Known: ega, literal, stable"),
        ({"labels": "sof"}, "unknown pseudo-label target 'sof'; did you mean 'soft'"),
        ({"node_target": "identiy"}, "unknown node target 'identiy'; did you mean 'identity'"),
        ({"edges": "clas"}, "unknown edge set 'clas'; did you mean 'class'. Known: class, sample"),
    ],
)
def test_unknown_names_are_suggested(options, message):
    with pytest.raises(UnknownNameError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": 1.5}, r"rho is the share of the feature block, a number in \[0, 1\], found 1.5"),
        ({"kl_temperature": 0}, "kl_temperature is a softmax temperature > 0, found 0"),
        *[
            ({f"{term}_weight": value}, f"weight of the {term} term is a finite number >= 0, found {value}")
            for term in ("ce", "node", "edge", "kl")
            for value in (-1.0, float("nan"), float("inf"))
        ],
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(OptionError, match=message):
        make(**options)


def test_an_option_that_does_not_exist():
    with pytest.raises(TypeError, match="rhoo"):
        make(rhoo=1)


@pytest.mark.parametrize(
    ("without", "message"),
    [("proxies", r"PRG \(teacher\) needs features.proxies, which is absent: .*a teacher without text tower"),
     ("proxy_logits", r"PRG \(teacher\) needs features.proxy_logits"),
     ("logits", "needs features.logits"),
     ("embedding", "PRG needs features.embedding")],
)  # fmt: skip
def test_a_teacher_that_lacks_a_part(without, message):
    t = teacher()
    parts = {part: getattr(t, part) for part in PARTS if part != without}
    with pytest.raises(MissingFeatureError, match=message):
        make()(student(), Features(**parts))


def test_a_student_that_lacks_its_classifier():
    s = student()
    with pytest.raises(MissingFeatureError, match=r"PRG \(student\) needs features.proxies"):
        make()(Features(s.embedding, s.logits), teacher())


@pytest.mark.parametrize(
    ("who", "message"),
    [(0, "student: found an embedding of width 8 and 4 logits, this distiller was built for 5 and 4"),
     (1, "teacher: found an embedding of width 8 and 4 logits, this distiller was built for 7 and 4")],
)  # fmt: skip
def test_widths_that_do_not_fit(who, message):
    pair = [student(), teacher()]
    pair[who] = features(8, 3)
    with pytest.raises(ShapeError, match=message):
        make()(*pair)


def test_batches_that_differ():
    with pytest.raises(ShapeError, match="student features of 6 samples and teacher features of 5"):
        make()(student(), teacher(batch=5))


def test_true_labels_must_be_given():
    with pytest.raises(MissingFeatureError, match="labels='label' trains on true labels and needs target"):
        make(labels="label")(student(), teacher())


class Model:
    def __init__(self, embedding_dim, num_classes):
        self.embedding_dim, self.num_classes = embedding_dim, num_classes


def test_between_sizes_itself():
    distiller = PRGDistiller.between(Model(DS, C), Model(DT, C), edges="sample", rho=0.25).double()
    assert distiller(student(), teacher()).keys() == {"prg/ce", "prg/node", "prg/edge", "prg/kl"}
    assert distiller.projector.weight.shape == (DT, DS)


def test_between_needs_a_teacher_with_classes():
    with pytest.raises(TeacherError, match="PRG needs classes, and this teacher has neither text tower nor classifier"):
        PRGDistiller.between(Model(DS, C), Model(DT, None))
