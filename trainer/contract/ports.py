"""A port for processes of this machine to meet at."""

import errno
import random
import socket

OURS = range(20_000, 30_000)
"""Below what Linux gives to outgoing connections (``net.ipv4.ip_local_port_range``, 32768 and up by default)."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has now.

    Whoever is to listen on it does so seconds later. The kernel's own choice (port 0) is among the ports that it gives
    to every connection made meanwhile, of another training's ranks for one: a port outside of those stays free.

    Raises:
        OSError: none of a hundred was free.
    """
    for port in random.SystemRandom().sample(OURS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
    raise OSError(errno.EADDRINUSE, "of a hundred ports that were tried none was free")
