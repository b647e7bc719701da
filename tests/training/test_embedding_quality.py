"""How far two sets of embeddings arrange images alike."""

import math

import pytest
import torch

from graphkd.data.views import Batch
from graphkd.errors import MissingFeatureError, NonFiniteError, ShapeError
from graphkd.features import Features
from graphkd.training.embedding_quality import EmbeddingQuality, embeddings_of, nearest


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_neighbours_by_cosine():
    x = torch.tensor([[1.0, 0.0], [10.0, 1.0], [0.0, 1.0], [0.1, 2.0]])
    assert nearest(x, 2).tolist() == [[1, 3], [0, 3], [3, 1], [2, 1]]


def test_a_rotation_is_no_difference():
    teacher = drawn(60, 6)
    rotation = torch.linalg.qr(drawn(6, 6, seed=1))[0]
    found = EmbeddingQuality(teacher @ rotation * 3, teacher)
    assert found.numbers() == {"agreement": 1.0, "cosine": pytest.approx(1, abs=1e-4)}


def test_what_is_unrelated_agrees_by_chance():
    found = EmbeddingQuality(drawn(400, 8), drawn(400, 5, seed=1))
    assert found.agreement == pytest.approx(10 / 399, abs=0.01)
    assert abs(found.cosine) < 0.1


def test_an_agreement_by_hand():
    angles = torch.arange(21) * 0.01
    teacher = torch.stack([angles.cos(), angles.sin()], 1)  # on an arc: neighbours are those of the nearest numbers
    student = teacher.clone()
    student[20] = -student[20]  # now the farthest of all
    ours, theirs = nearest(student), nearest(teacher)
    expected = sum(len({*a} & {*b}) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)) / 210
    assert EmbeddingQuality(student, teacher).agreement == pytest.approx(expected)
    assert 0.5 < expected < 1


def test_labels_score_both():
    labels = torch.arange(60) % 3
    teacher = torch.eye(3)[labels] + 0.1 * drawn(60, 3)
    found = EmbeddingQuality(drawn(60, 4, seed=2), teacher, labels).numbers()
    assert (found["teacher_knn"], found["teacher_linear_probe"]) == (1, 1)
    assert max(found["knn"], found["linear_probe"]) < 0.6
    assert "knn" not in EmbeddingQuality(teacher, teacher, torch.full((60,), -1)).numbers()
    assert "knn" not in EmbeddingQuality(teacher, teacher, torch.zeros(60, dtype=torch.long)).numbers()


def test_of_many_images_some_are_compared():
    found = EmbeddingQuality(drawn(10001, 2), drawn(10001, 2))
    assert (found.images, found.agreement) == (3334, 1)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ShapeError, match="same 20 images or more, found 19 and 19"):
        EmbeddingQuality(drawn(19, 2), drawn(19, 2))
    with pytest.raises(NonFiniteError, match="1 of 20 embeddings of the student"):
        EmbeddingQuality(drawn(20, 2).index_fill(0, torch.tensor(3), math.nan), drawn(20, 2))


def test_batches_are_put_in_their_places():
    x, blank = drawn(5, 3), torch.empty(0)
    batches = [
        Batch(blank, blank, torch.tensor(at), torch.tensor([7 - each for each in at])) for at in ([4, 0], [1, 3, 2])
    ]
    found, labels = embeddings_of(lambda batch: Features(x[batch.index]), batches, 5)
    assert torch.equal(found, x)
    assert labels.tolist() == [7, 6, 5, 4, 3]
    with pytest.raises(MissingFeatureError, match="not each of 5"):
        embeddings_of(lambda batch: Features(x[batch.index]), batches[:1], 5)
