"""Where there is no hub, nobody waits for it."""

import socket

import pytest
from huggingface_hub import constants

from cmcr.encoders.hub import PATIENCE, patient_hub


@pytest.fixture(autouse=True)
def online(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Connection:
    def close(self):
        pass


def test_an_unreachable_hub_is_asked_once_and_then_left_alone(monkeypatch):
    asked = []

    def refuse(address, timeout):
        asked.append((address, timeout))
        raise OSError("no network here")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(ValueError, match="inside"), patient_hub():
        assert constants.HF_HUB_OFFLINE
        raise ValueError("inside")
    assert not constants.HF_HUB_OFFLINE  # as it was, also after an error
    assert [timeout for _, timeout in asked] == [PATIENCE]


def test_a_reachable_hub_is_used(monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: Connection())
    with patient_hub():
        assert not constants.HF_HUB_OFFLINE


def test_what_a_proxy_reaches_is_not_for_us_to_say(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: 1 / 0)
    with patient_hub():
        assert not constants.HF_HUB_OFFLINE
