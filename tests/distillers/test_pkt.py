from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.pkt import PKTDistiller
from graphkd.features import Features
from tests.distiller_laws import networks


def test_equals_the_function_times_its_weight():
    student, teacher = networks(9)
    assert_close(PKTDistiller()(student, teacher).total, 30000 * functional.pkt(student.embedding, teacher.embedding))


def test_a_zero_sample_gets_no_gradient():
    student, teacher = (each.embedding.clone() for each in networks(9))
    student[3] = 0
    student.requires_grad_()
    PKTDistiller(weight=1.0)(Features(embedding=student), Features(embedding=teacher)).total.backward()
    assert student.grad.isfinite().all()
    assert not student.grad[3].any()
