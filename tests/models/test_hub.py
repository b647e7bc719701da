"""Where the hub cannot be reached, nobody waits for its retries."""

import socket

import pytest
from huggingface_hub import constants

from graphkd.models import hub


@pytest.fixture
def answers(monkeypatch):
    """Let a connection succeed, or fail; the addresses that were tried."""
    tried = []

    def set_to(succeeds):
        def connect(address, timeout):
            tried.append(address)
            if not succeeds:
                raise socket.gaierror(-2, "Name or service not known")
            return socket.socket()

        monkeypatch.setattr(socket, "create_connection", connect)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub, "getproxies", dict)
        return tried

    return set_to


@pytest.mark.parametrize("there", [True, False])
def test_only_the_cache_is_looked_into_while_the_hub_is_away(answers, there):
    tried = answers(there)
    with pytest.raises(ValueError, match="inside"), hub.no_retries() as found:
        assert (found, constants.HF_HUB_OFFLINE) == (there, not there)
        raise ValueError("inside")
    assert constants.HF_HUB_OFFLINE is False
    assert tried == [(hub.hub_host(), 443)]


def test_a_proxy_is_asked_in_the_place_of_the_hub(answers, monkeypatch):
    tried = answers(True)
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy.example:3128"})
    assert hub.reachable()
    assert tried == [("proxy.example", 3128)]


def test_whoever_asked_for_no_network_is_obeyed(answers, monkeypatch):
    tried = answers(True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not hub.reachable()
    assert tried == []


def test_the_message_is_whole():
    long = OSError("word " * 200 + "end")
    assert hub.not_had(True, long).endswith("end)")
    assert hub.not_had(False, long) == f"not on this machine, and {hub.hub_host()} cannot be reached"
