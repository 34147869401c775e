"""The listening socket.

A socket is bound before anything else is started and listens only when there is someone to answer.
"""

import socket

from server.errors import StartupError


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to an address, not yet listening; port 0 takes a free one. Raises StartupError."""
    host = host.strip("[]")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # A port whose last server has just gone is free; one with a server on it is not.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except (OSError, UnicodeError) as e:
        sock.close()
        why = getattr(e, "strerror", None) or "not a usable address"
        raise StartupError(f"cannot listen on {host}:{port}: {why}") from e
    return sock


def address(sock: socket.socket) -> str:
    """Where clients on this machine reach it, as http://host:port; an all-interfaces address as its loopback."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (to be asked, not bound)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
