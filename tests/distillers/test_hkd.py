import pytest
import torch
from torch.testing import assert_close

from graphkd.distillers.hkd import HKDDistiller
from tests.distiller_laws import beside, networks


def made(student, teacher, **options):
    torch.manual_seed(0)
    return HKDDistiller.between(student, teacher, num_samples=32, width=8, **options).double()


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def contrast(x, positive, memory, index, chosen):
    """The obvious loop over samples."""
    terms = []
    for i in range(len(x)):
        negatives = [j for j in chosen if j != index[i]]
        scores = torch.cat([(x[i] @ positive[i]).view(1), memory[negatives] @ x[i]]) / 0.07
        terms.append(-scores.log_softmax(0)[0])
    return torch.stack(terms).mean()


def test_instance_term_by_a_loop():
    student, teacher = networks(9)
    distiller = made(student, teacher, negatives=5, graph_weight=0.0, weight=1.0).eval()
    index = beside(9)["index"]
    e = {side: unit(distiller.embed[side](x.embedding)) for side, x in (("student", student), ("teacher", teacher))}
    memory = {side: distiller.get_buffer(f"memory_{side}") for side in e}
    chosen = distiller.order[:5].tolist()
    expected = sum(
        contrast(e[a], memory[b][index], memory[b], index, chosen)
        for a, b in (("student", "teacher"), ("teacher", "student"))
    )
    assert_close(distiller(student, teacher, index=index).total, expected)


@pytest.mark.parametrize("neighbors", [1, 3])
def test_graph_term_by_a_loop(neighbors):
    student, teacher = networks(9)
    distiller = made(student, teacher, negatives=5, neighbors=neighbors, weight=1.0).eval()
    index, memory, nodes = beside(9)["index"], {}, {}
    for side, x in (("student", student), ("teacher", teacher)):
        e, p = unit(distiller.embed[side](x.embedding)), unit(x.logits.softmax(-1))
        mean = torch.stack([e[(p @ p[i]).topk(neighbors).indices].mean(0) for i in range(9)])  # degrees are equal
        layer = distiller.convolve[side]
        nodes[side] = unit(layer.lins[0](e) + layer.lins[1](mean) + layer.bias)
        memory[side] = distiller.get_buffer(f"memory_{side}")
    smooth = {side: unit(0.75 * memory[side][index] + 0.25 * nodes[side].detach()) for side in nodes}
    chosen = distiller.order[:5].tolist()
    expected = sum(
        contrast(nodes[a], smooth[b], memory[b], index, chosen)
        for a, b in (("student", "teacher"), ("teacher", "student"))
    )
    assert_close(distiller(student, teacher, index=index)["hkd/graph"], expected)


def test_memory_of_the_batch_moves_in_training_only():
    student, teacher = networks(9)
    distiller, index = made(student, teacher, negatives=5), beside(9)["index"]
    before = distiller.memory_student.clone()
    distiller.eval()(student, teacher, index=index)
    assert_close(distiller.memory_student, before)
    distiller.train()(student, teacher, index=index)
    expected = unit(0.9 * before[index] + 0.1 * unit(distiller.embed["student"](student.embedding)))
    assert_close(distiller.memory_student[index], expected)
    others = [i for i in range(32) if i not in index.tolist()]
    assert_close(distiller.memory_student[others], before[others])
    assert distiller.cursor == 5


def test_a_batch_smaller_than_the_neighborhood_skips_the_graph():
    student, teacher = networks(4)
    assert made(student, teacher)(student, teacher, **beside(4))["hkd/graph"] == 0


class Store:
    embedding_dim, num_classes = 8, 5

    def __len__(self):
        return 77


def test_a_store_tells_the_number_of_samples():
    student, _ = networks(4)
    assert HKDDistiller.between(student, Store()).memory_teacher.shape == (77, 128)
