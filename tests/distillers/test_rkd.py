import pytest
import torch
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.rkd import RKDDistiller
from graphkd.errors import MissingFeatureError, OptionError
from graphkd.features import Features
from tests.distiller_laws import networks


def test_distances_of_three_points_by_hand():
    # student 0, 1, 2: distances 1, 2, 1, mean 4/3; teacher 0, 1, 3: distances 1, 3, 2, mean 2
    student, teacher = (Features(embedding=torch.tensor(x).unsqueeze(1)) for x in ([0.0, 1.0, 2.0], [0.0, 1.0, 3.0]))
    differences = torch.tensor([0.75 - 0.5, 1.5 - 1.5, 0.75 - 1.0])
    expected = 2 * (differences.square() / 2).sum() / 9
    assert_close(RKDDistiller(distance_weight=1.0)(student, teacher)["rkd/distance"], expected)


def test_both_terms_equal_their_functions():
    student, teacher = networks(9)
    losses = RKDDistiller()(student, teacher)
    embeddings = student.embedding, teacher.embedding
    assert_close(losses["rkd/distance"], 25 * functional.rkd_distance(*embeddings))
    assert_close(losses["rkd/angle"], 50 * functional.rkd_angle(*embeddings))


def test_two_equal_samples_have_bounded_gradients():
    student, teacher = (each.embedding.clone() for each in networks(9))
    student[1] = student[0]
    student.requires_grad_()
    RKDDistiller()(Features(embedding=student), Features(embedding=teacher)).total.backward()
    assert student.grad.abs().max() < 1e4


def test_bad_input_is_named():
    with pytest.raises(OptionError, match="angle term is a finite number >= 0, found -1"):
        RKDDistiller(angle_weight=-1.0)
    logits = Features(logits=torch.zeros(2, 3))
    with pytest.raises(MissingFeatureError, match="RKD needs features.embedding"):
        RKDDistiller()(logits, logits)
