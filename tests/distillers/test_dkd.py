import pytest
import torch
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.dkd import DKDDistiller
from graphkd.errors import OptionError, ShapeError
from graphkd.features import Features
from tests.distiller_laws import beside, networks


def test_both_terms_equal_their_functions():
    (student, teacher), target = networks(9), beside(9)["target"]
    losses = DKDDistiller(alpha=2.0, beta=3.0, temperature=1.5)(student, teacher, target=target)
    logits = student.logits, teacher.logits
    assert_close(losses["dkd/target"], 2 * functional.dkd_target(*logits, target, temperature=1.5))
    assert_close(losses["dkd/non_target"], 3 * functional.dkd_non_target(*logits, target, temperature=1.5))


def test_weight_zero_leaves_a_term_out():
    student, teacher = networks(9)
    assert set(DKDDistiller(beta=0.0)(student, teacher, **beside(9))) == {"dkd/target"}


def test_bad_input_is_named():
    with pytest.raises(OptionError, match="temperature of a softmax is > 0"):
        DKDDistiller(temperature=-1.0)
    one = Features(logits=torch.zeros(2, 1))
    with pytest.raises(ShapeError, match="at least 2 classes"):
        DKDDistiller()(one, one, target=torch.zeros(2, dtype=torch.long))
