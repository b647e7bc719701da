import pytest
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.dist import DISTDistiller
from graphkd.errors import OptionError
from tests.distiller_laws import features, networks


def test_both_terms_equal_their_functions():
    student, teacher = networks(9)
    losses = DISTDistiller(beta=2.0, gamma=3.0, temperature=4.0)(student, teacher)
    logits = student.logits, teacher.logits
    assert_close(losses["dist/inter"], 2 * functional.dist_inter(*logits, temperature=4.0))
    assert_close(losses["dist/intra"], 3 * functional.dist_intra(*logits, temperature=4.0))


def test_nearly_zero_at_the_teacher():  # 1e-8 beside the lengths leaves a rest
    teacher = features(9, 1)
    assert 0 <= DISTDistiller()(teacher, teacher).total < 1e-5


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(OptionError, match="temperature of a softmax is > 0, found 0"):
        DISTDistiller(temperature=0.0)
