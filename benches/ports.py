"""Ports for the programs that a bench starts."""

import os
import socket

next_port = 20_000 + os.getpid() % 8_000


def free_ports(count):
    """Ports below the ephemeral range, where a dial cannot meet itself; each is given out once."""
    global next_port
    ports = []
    while len(ports) < count:
        next_port += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", next_port))
                ports.append(next_port)
            except OSError:
                pass
    return ports
