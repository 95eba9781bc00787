"""The socket and the server; light until it runs, so that a port in use is told at once."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aigc_cli.errors import InputError, MissingError

if TYPE_CHECKING:
    from aigc_cli.run.serving.api import Settings
    from aigc_cli.run.trained import Trained

LOCAL = ("localhost", "127.0.0.1", "::1")
PACKAGES = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}


def require_serve() -> None:
    """
    Raises:
        MissingError: a package of the extra is absent.
    """
    missing = [name for module, name in PACKAGES.items() if not importlib.util.find_spec(module)]
    if missing:
        raise MissingError(
            f"aigc serve needs {', '.join(missing)}, which is not installed",
            hint='pip install "aigc-cli[serve]"',
        )


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        InputError: the port is in use, or the address is not of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(128)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"{host}:{port}: cannot listen there: {reason}",
            hint="choose another --port, or 0 for any free one",
        ) from error
    return listening


def run(models: Mapping[str, Trained], settings: Settings, listening: socket.socket) -> None:
    """Serve until a signal; requests in progress are answered first."""
    import uvicorn

    from aigc_cli.run.serving.api import build_app

    config = uvicorn.Config(
        build_app(models, settings),
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.timeout_s) + 1,
        limit_concurrency=1000,
    )
    uvicorn.Server(config).run(sockets=[listening])
