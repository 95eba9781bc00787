"""`aigc tune --engine ray`: several trials at once, each a task of a cluster; Optuna decides."""

from __future__ import annotations

import os
from collections.abc import Iterator

from aigc_cli.errors import AigcError
from aigc_cli.run.engines.cluster import Engine, connected, require_room
from aigc_cli.run.progress import Emit, Event
from aigc_cli.run.tune import Pool, Search
from aigc_cli.run.tune_trial import run_trial


def on_ray(engine: Engine) -> Pool:
    """Runs `engine.workers` trials at a time, on a GPU each where there are so many."""

    def pool(search: Search, numbers: Iterator[int], emit: Emit) -> None:
        with connected(engine) as ray:
            has_gpus = ray.cluster_resources().get("GPU", 0) >= engine.workers
            gpus = int(has_gpus and search.recipe["trainer"]["device"] != "cpu")
            require_room(ray, engine.workers, gpus)
            task = ray.remote(_run).options(num_cpus=1, num_gpus=gpus, max_retries=0)
            running: dict[object, int] = {}

            def begin(number: int) -> None:
                running[task.remote(search, number, os.getcwd())] = number

            while True:
                while len(running) < engine.workers and (number := next(numbers, None)) is not None:
                    begin(number)
                if not running:
                    return
                done, _ = ray.wait(list(running), timeout=1.0)
                for ref in done:
                    number = running.pop(ref)
                    try:
                        told = ray.get(ref)
                    except ray.exceptions.RayError:  # its process was killed, as for its memory
                        begin(number)  # from its checkpoint; after some such starts it has failed
                        continue
                    if isinstance(told, AigcError):
                        raise told
                    for event in told:
                        emit(event)

    return pool


def _run(search: Search, number: int, folder: str) -> list[Event] | AigcError:
    """In a process of the cluster: what the trial had to say."""
    os.chdir(folder)
    told: list[Event] = []
    try:
        run_trial(search, number, lambda e: told.append(e) if e["event"] == "note" else None)
    except AigcError as error:
        return error
    return told
