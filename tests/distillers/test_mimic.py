import torch
from torch.testing import assert_close

from graphkd.distillers.mimic import MimicDistiller
from tests.distiller_laws import networks


def test_feature_term_compares_student_and_teacher():
    student, teacher = networks(9)
    distiller = MimicDistiller.between(student, teacher).double()
    s, t = distiller.projector(student.embedding), teacher.embedding
    expected = (2 - 2 * torch.cosine_similarity(s, t)).mean()
    assert_close(distiller(student, teacher)["mimic/feature"], expected)
