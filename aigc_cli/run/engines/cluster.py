"""A Ray cluster: one that exists, or one of our own on this machine, which nobody else can reach.

Only this folder knows Ray, and nothing imports it before it is asked for: it takes seconds.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aigc_cli.errors import InputError, MissingError, RunError

PROBE_S = 5.0  # to reach the head of a cluster
OBJECTS = 80 * 1024 * 1024  # bytes of a store of our own, the least there is; disk takes the rest
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or a remark on GPUs that were not asked for
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # or it asks for ten minutes a head that is none
    "RAY_gcs_rpc_server_connect_timeout_s": "5",
    "RAY_gcs_server_request_timeout_seconds": "10",
}
LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on any system: listens to this machine alone
    "RAY_worker_niceness": "0",  # 15 otherwise, which gives way to everything else
}
"""For a cluster of our own."""


@dataclass(frozen=True)
class Engine:
    """How many workers, and in which cluster: HOST:PORT of its head, `auto` for one that this
    machine is part of; None: one of our own.
    """

    workers: int
    address: str | None = None


@contextmanager
def connected(engine: Engine) -> Iterator[Any]:
    """The module `ray`, connected; a cluster of our own ends with it.

    Raises:
        MissingError: Ray is not installed. InputError: the cluster cannot be reached.
    """
    address = require_reachable(engine.address)
    for name, value in {**QUIET, **({} if address else LOCAL)}.items():
        os.environ.setdefault(name, value)
    import ray

    own: dict[str, Any] = {"num_cpus": engine.workers, "object_store_memory": OBJECTS}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _muted():
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level="CRITICAL",
                include_dashboard=None if address else False,
                **({} if address else own),
            )
    except Exception as error:  # of gRPC, of its own, or a RuntimeError, as it comes
        told = str(error).strip().partition("\n")[0] or type(error).__name__
        if address is None:
            raise RunError(f"no Ray cluster could be started here: {told}") from error
        raise _unreachable(address, told) from error
    finally:
        for number, handler in handlers.items():  # Ray's own ends without a word
            with suppress(ValueError):
                signal.signal(number, handler)
    try:
        yield ray
    finally:
        with _muted():
            ray.shutdown()


@contextmanager
def _muted() -> Iterator[None]:
    """Inside, nothing is written to stderr: Ray's lower half does so whatever it is told."""
    sys.stderr.flush()
    before = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


def require_reachable(address: str | None) -> str | None:
    """The address that counts, once somebody listens there: what can be said before anything is
    begun.

    Raises:
        MissingError: Ray is not installed. InputError: nobody listens there.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if not importlib.util.find_spec("ray"):
        raise MissingError(
            "--engine ray needs Ray, which is not installed", hint='pip install "aigc-cli[ray]"'
        )
    if address and address != "auto":
        _probe(address)
    return address


def require_room(ray: Any, workers: int, gpus: int) -> None:
    """
    Raises:
        InputError: the cluster is smaller than what is asked of it.
    """
    has = ray.cluster_resources()
    for name, each in (("CPU", 1), ("GPU", gpus)):
        if has.get(name, 0) < workers * each:
            raise InputError(
                f"--workers {workers}: the cluster has {has.get(name, 0):g} {name}s",
                hint=f"use --workers {int(has.get(name, 0)) or 1}, or add machines to it",
            )


def _probe(address: str) -> None:
    """
    Raises:
        InputError: nobody listens there.
    """
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdecimal():
        raise InputError(
            f"--address {address}: is not HOST:PORT",
            hint="name the head of a cluster that this machine is part of, such as node0:6379",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, str(getattr(error, "strerror", None) or error)) from error


def _unreachable(address: str, why: str) -> InputError:
    return InputError(
        f"--address {address}: no Ray cluster answers there ({why.lower()})",
        hint="start one with: ray start --head, and join it with: ray start --address HOST:PORT",
    )
