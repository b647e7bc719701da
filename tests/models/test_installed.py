"""Names read in the files of the installed libraries are those that the libraries have; they are read without torch."""

import sys
from subprocess import run

import open_clip
import pytest
import timm
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from timm.optim import list_optimizers
from torchvision.models import list_models

from graphkd.errors import UnknownNameError
from graphkd.models import installed


def test_names_are_those_of_the_libraries():
    ours = set(installed.timm_models())
    assert set(timm.list_models()) <= ours
    assert [name for name in ours if not timm.is_model(name)] == []
    assert set(installed.torchvision_models()) == set(list_models())
    assert set(installed.optimizers()) == set(list_optimizers())
    assert set(installed.trackers()) == set(LOGGER_TYPE_TO_CLASS)
    assert set(installed.clip_models()) == set(open_clip.list_models())
    found = {(model, tag) for model, tags in installed.clip_tags().items() for tag in tags}
    assert found == set(open_clip.list_pretrained())


def test_nothing_heavy_is_loaded():
    code = (
        "import sys\nfrom graphkd.models import installed as i\n"
        "i.timm_models(), i.torchvision_models(), i.optimizers(), i.trackers(), i.clip_models(), i.clip_tags()\n"
        "print([name for name in ('torch', 'timm', 'open_clip', 'numpy') if name in sys.modules])"
    )
    assert run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k", "torchvision/resnet18", "vgg11"])
def test_known_networks_pass(name):
    installed.require_network("student", name)


def test_an_unknown_network_is_refused_with_the_nearest_name():
    for name in ("resnet81", "torchvision/resnet81"):
        with pytest.raises(UnknownNameError, match="unknown student 'resnet81'; did you mean 'resnet18'"):
            installed.require_network("student", name)


def test_a_model_of_this_process_passes():
    with pytest.raises(UnknownNameError):
        installed.require_network("student", "our_own_network")

    def our_own_network(**options):
        return None

    our_own_network.__module__ = __name__
    timm.models.register_model(our_own_network)
    installed.require_network("student", "our_own_network")


def test_where_no_names_are_found_nobody_is_refused(monkeypatch):
    for reader in ("timm_models", "torchvision_models"):
        monkeypatch.setattr(installed, reader, tuple)
    installed.require_network("student", "resnet81")
