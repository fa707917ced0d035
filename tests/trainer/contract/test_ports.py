import socket

import pytest

from trainer.contract import ports
from trainer.contract.ports import free_port


def test_a_free_port_can_be_listened_on_and_is_none_that_the_kernel_gives_away() -> None:
    port = free_port()
    with socket.socket() as listener, socket.socket() as other:
        listener.bind(("127.0.0.1", port))
        other.bind(("127.0.0.1", 0))
        assert port < 32_768 <= other.getsockname()[1]


def test_a_port_that_somebody_listens_on_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        monkeypatch.setattr(ports, "OURS", range(taken, taken + 100))
        assert free_port() != taken
        monkeypatch.setattr(ports, "OURS", [taken] * 100)
        monkeypatch.setattr(ports.random.SystemRandom, "sample", lambda self, population, count: population)
        with pytest.raises(OSError, match="none was free"):
            free_port()
