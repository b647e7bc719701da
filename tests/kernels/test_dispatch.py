import threading
from importlib.util import find_spec

import pytest
import torch
from graphkd_kernels import dispatch, explain, plans, reference
from torch.testing import assert_close

import graphkd
from graphkd.errors import BackendError, ShapeError


@pytest.mark.parametrize("operation", sorted({*dispatch._BACKENDS["eager"]} - {"gram", "squared_distances"}))
def test_eager_is_the_reference(operation):
    with dispatch.backend("eager"):
        assert dispatch.find(operation) is getattr(reference, operation)


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize("operation", sorted(dispatch._BACKENDS["eager"]))
def test_an_operation_has_one_file_name_in_every_backend(operation):
    backends = [dispatch._table(name) for name in ("eager", "blocked", "triton")]
    files = {each[operation].__module__.rpartition(".")[2] for each in backends}
    assert len(files) == 1, f"{operation} is in {', '.join(sorted(files))}"


def test_a_backend_rules_inside_its_block_only():
    before = dispatch._ASKED.get()
    with graphkd.backend("eager"):
        assert dispatch._ASKED.get() == "eager"
        with graphkd.backend("auto"):
            assert dispatch._ASKED.get() == "auto"
        assert dispatch._ASKED.get() == "eager"
    assert dispatch._ASKED.get() == before


def test_a_backend_is_left_after_an_error():
    before = dispatch._ASKED.get()
    with pytest.raises(RuntimeError, match="mine"), graphkd.backend("eager"):
        raise RuntimeError("mine")
    assert dispatch._ASKED.get() == before


def test_a_backend_holds_for_its_own_thread():
    seen = []
    with graphkd.backend("eager"):
        thread = threading.Thread(target=lambda: seen.append(dispatch._ASKED.get()))
        thread.start()
        thread.join()
    assert seen == ["auto"]


def test_the_backend_asked_for_runs(monkeypatch):
    monkeypatch.setitem(dispatch._BACKENDS, "mine", {"gram": lambda x, y: torch.zeros(1)})
    x = torch.ones(2, 2)
    with graphkd.backend("mine"):
        assert_close(graphkd.ops.gram(x, x), torch.zeros(1))
    assert_close(graphkd.ops.gram(x, x), 2 * torch.ones(2, 2))


def test_an_unknown_backend_says_what_there_is():
    with (
        pytest.raises(BackendError, match="'tritn' cannot run: no such backend is known; available here: auto,.*eager"),
        graphkd.backend("tritn"),
    ):
        pass


def test_knn_says_how_many_neighbours_there_are():
    with pytest.raises(ShapeError, match="3 nodes has 2 neighbours for each, 3 were asked for: lower k"):
        graphkd.ops.knn(torch.zeros(3, 2), 3)
    with pytest.raises(ShapeError, match="0 were asked for"):
        graphkd.ops.knn(torch.zeros(3, 2), 0)


@pytest.mark.parametrize("operation", ["gram", "squared_distances"])
def test_pair_operations_name_both_widths(operation):
    with pytest.raises(ShapeError, match="source nodes have 4 features, target nodes 5: project one side first"):
        getattr(graphkd.ops, operation)(torch.zeros(2, 4), torch.zeros(2, 5))


def test_a_backend_without_the_operation_says_which_have_it(monkeypatch):
    monkeypatch.setitem(dispatch._BACKENDS, "mine", {"gram": lambda x, y: torch.zeros(1)})
    with (
        graphkd.backend("mine"),
        pytest.raises(dispatch.BackendUnavailableError, match=r"'mine' has no 'knn'; those that have it: .*eager"),
    ):
        dispatch.run("knn", torch.zeros(3, 2), 1)


def test_triton_says_what_it_lacks(monkeypatch):
    monkeypatch.setattr(dispatch._triton, "missing", lambda: "no CUDA device here")
    with pytest.raises(BackendError, match="'triton' cannot run: no CUDA device here"), graphkd.backend("triton"):
        pass


def test_auto_runs_what_the_plan_says(monkeypatch):
    seen = []

    def planned(signature, where):
        seen.append((signature, where.dtype, where.device, where.backends))
        return plans.Plan("mine" if signature[0][0] > 2 else "eager", "tiles", 1.0, 1.0, "of its size")

    monkeypatch.setitem(plans.PLANNERS, "gram", planned)
    monkeypatch.setitem(dispatch._BACKENDS, "mine", {"gram": lambda x, y: torch.zeros(1)})
    monkeypatch.setattr(dispatch, "_PICKED", {})
    small, large = torch.ones(2, 2), torch.ones(3, 2)
    for _ in range(2):
        assert_close(dispatch.run("gram", small, small), 2 * torch.ones(2, 2))
        assert_close(dispatch.run("gram", large, large), torch.zeros(1))
    assert len(seen) == 2, "a shape is planned once"
    assert seen[0] == (((2, 2), (2, 2)), torch.float32, "cpu", frozenset({"eager", "blocked", "mine"}))
    assert explain("gram", [(3, 2), (3, 2)]).plan.backend == "mine"


def test_explain_knows_every_operation_and_no_other():
    text = str(explain("edge_kl", [(8, 4), None, (8, 4), None], "squared_euclidean", 1.0))
    assert text.startswith("edge_kl: eager, dense (size 64: from size 0 on, by the shipped table)")
    with pytest.raises(KeyError, match="no backend has an operation 'edge_kll'"):
        explain("edge_kll", [(8, 4)])
    with pytest.raises(
        ValueError, match=r"edge_kl takes \(xs, ys, xt, yt, relation, .*\), found \(\(8, 4\),\): give the"
    ):
        explain("edge_kl", [(8, 4)])
