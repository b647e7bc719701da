"""What the library and the system raise, in two lines."""

import pytest

from graphkd.cli.app import options_of
from graphkd.cli.errors import UsageError, explained
from graphkd.data import decoding
from graphkd.errors import DataError, OptionError, StoreError, TeacherError, UnknownNameError


def test_an_error_of_a_process_that_loads_images():
    inner = "DataError: cannot read image a.png (OSError: cut off): repair or remove it"
    error = DataError(
        f"Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  x\ngraphkd.errors.{inner}"
    )
    assert explained(error, {}, "embed") == ("cannot read image a.png (OSError: cut off)", "repair or remove it")


def test_the_library_speaks_in_flags():
    error = DataError("photos holds splits: pass one of them, or layout='flat'")
    assert explained(error, options_of("embed"), "embed") == (
        "photos holds splits",
        "pass one of them, or --layout flat",
    )


@pytest.mark.parametrize(("command", "unreadable", "too_large"), [
    ("embed", "repair or remove it, or give --on-error skip", "make the image smaller, allow it with --max-megapixels 70, or give --on-error skip"),
    ("export", "repair or remove it", "make the image smaller"),
    ("doctor", "repair or remove it", "make the image smaller"),
])  # fmt: skip
def test_only_options_that_the_command_has_are_advised(command, unreadable, too_large):
    errors = decoding._unreadable("a.png", "cut off"), decoding._too_large("a.png is large", 64, "70")
    assert [explained(each, options_of(command), command)[1] for each in errors] == [unreadable, too_large]


def test_a_call_in_python_becomes_options():
    error = TeacherError(
        "the weights 'openai' could not be downloaded: no network. Where there is network, download it; put the file "
        "anywhere on this machine and use CLIPTeacher('ViT-B-32', pretrained='/path/to/file', quick_gelu=True)"
    )
    assert explained(error, options_of("distill"), "distill")[1] == (
        "put the file anywhere on this machine and give --teacher ViT-B-32 --pretrained /path/to/file --quick-gelu"
    )


@pytest.mark.parametrize(("error", "what", "todo"), [
    (OSError(28, "No space left on device", "x/y"), "No space left on device (x/y)", "check the path, its permissions"),
    (MemoryError("1 GiB"), "out of memory: 1 GiB", "lower --batch-size"),
    (ModuleNotFoundError("no", name="onnx.checker"), "needs the package 'onnx'", "pip install 'graphkd[export]'"),
    (ModuleNotFoundError("no", name="wandb"), "needs the package 'wandb'", "pip install wandb"),
    (UnknownNameError("unknown thing 'a'. Known: b, c"), "unknown thing 'a'", "choose one of b, c"),
    (DataError("no more; go on with fit(resume=True)"), "no more; go on with --resume", "graphkd embed --help"),
    (StoreError("x is damaged; Please choose another --store folder"), "x is damaged", "choose another --store folder"),
    (OptionError("no remedy is given here"), "no remedy is given here", "graphkd embed --help explains every option"),
    (UsageError("two\nlines", "one\n line"), "two lines", "one line"),
])  # fmt: skip
def test_any_error_has_two_lines(error, what, todo):
    first, second = explained(error, {}, "embed")
    assert what in first
    assert todo in second
    assert "\n" not in first + second


def test_what_nobody_foresaw_is_not_explained_away():
    assert explained(RuntimeError("a bug"), {}, "embed") is None
