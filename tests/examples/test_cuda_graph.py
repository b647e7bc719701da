import pytest
import torch

from examples.cuda_graph import main


@pytest.mark.parametrize("method", ["prg", "sp"])
def test_without_a_gpu_it_says_so_and_checks_the_arithmetic(method, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--method", method, "--batch", "16", "--steps", "3"]) == 0
    text = capsys.readouterr().out
    assert "no CUDA device here" in text
    assert {line.split(" loss")[0].strip() for line in text.splitlines()[:3]} == {"as written", "captured", "compiled"}


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["prg", "sp"])
def test_a_captured_step_trains_as_the_written_one(method, capsys):
    assert main(["--method", method, "--steps", "20"]) == 0
    assert "no CUDA device" not in capsys.readouterr().out
