"""`aigc train --engine ray`: the workers of torchrun, placed by Ray, and placed again when one is
lost.

Each worker is a node of one process for torch, on a GPU of its own where there are some. A run is a
function of its step, so what was lost with a worker is done again from the last checkpoint, and
ends in the same weights.
"""

from __future__ import annotations

import os
import signal
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aigc_cli.errors import Interrupted, RunError
from aigc_cli.run.engines.cluster import Engine, connected, require_room
from aigc_cli.run.engines.worker import Ended, Keeper
from aigc_cli.run.folder import FOLDER_VARIABLE, RunFolder
from aigc_cli.run.launch import SAVE_TIMEOUT_S
from aigc_cli.run.progress import Emit
from aigc_cli.run.stop import Stop

PLACE_S = 120.0  # for the cluster to give room
ASK_S = 5.0  # between two looks whether the head is there, and for an answer
GRACE_S = 15.0  # for the others to notice that a worker is gone
MOST_LOSSES = 3  # in a row, without a new checkpoint between them
CARRIED = ("PYTHONPATH", "OMP_NUM_THREADS")
"""Of the environment, beside all that begins with AIGC_."""


def train_on_ray(
    engine: Engine,
    words: Sequence[str],
    folder: RunFolder,
    device: str,
    *,
    max_time_s: float | None = None,
    emit: Emit,
) -> None:
    """Run `aigc train WORDS` in the workers of the cluster until the run in `folder` is over, from
    its checkpoint where there is one.

    Raises:
        Interrupted: a signal came; the workers have saved and ended.
        RunError: workers are lost again and again. AigcError: as a worker ended.
        MissingError, InputError: as `connected` and `require_room`.
    """
    deadline = None if max_time_s is None else time.monotonic() + max_time_s
    with connected(engine) as ray:
        has_gpus = ray.cluster_resources().get("GPU", 0) >= engine.workers
        gpus = int(device == "cuda" or (device == "auto" and has_gpus))
        require_room(ray, engine.workers, gpus)
        stop = Stop()
        stop.listen()
        try:
            words = [*words, f"trainer.device={'cuda' if gpus else 'cpu'}"]
            _until_over(ray, engine.workers, gpus, words, folder, deadline, stop, emit)
        finally:
            stop.restore()


def _until_over(
    ray: Any,
    workers: int,
    gpus: int,
    words: Sequence[str],
    folder: RunFolder,
    deadline: float | None,
    stop: Stop,
    emit: Emit,
) -> None:
    """Start the workers, again after each loss, until all have ended well."""
    losses = 0
    while True:
        known = _written(folder)
        more = ["--resume", str(folder.path)] if known else []
        if deadline is not None:
            more += ["--max-time", f"{max(1, round(deadline - time.monotonic()))}s"]
        group = _Group(ray, workers, gpus)
        try:
            ended = group.run(["train", *words, *more], folder.path, stop, emit)
        finally:
            group.end()
        if stop.asked:
            name = signal.Signals(stop.asked).name
            raise Interrupted(
                stop.asked,
                f"stopped by {name}; the workers have saved their state",
                hint=f"continue with --resume {folder.path}",
            )
        if all(one.code == 0 for one in ended.values()):
            return
        lost = _lost(ended)
        losses = losses + 1 if _written(folder) == known else 0
        if losses >= MOST_LOSSES:
            raise RunError(
                f"{lost}, {losses} times in a row without a new checkpoint",
                hint=f"continue from the last checkpoint with --resume {folder.path}",
                code="run.lost_worker",
            )
        whence = "from the last checkpoint" if _written(folder) else "from the beginning"
        emit({"event": "warning", "message": f"{lost}; all go on {whence}"})


def _written(folder: RunFolder) -> int | None:
    """When the last checkpoint was."""
    return folder.last.stat().st_mtime_ns if folder.last.exists() else None


def _lost(ended: Mapping[int, Ended]) -> str:
    """Which worker was lost.

    Raises:
        AigcError: none was; a worker ended with its own sentence.
    """
    for rank, one in ended.items():
        if one.code is None:
            return f"worker {rank} was lost with its machine"
        if one.code < 0:
            return f"worker {rank} was killed by {signal.Signals(-one.code).name}"
    for one in ended.values():
        if one.problems and one.code not in (130, 143):  # these have saved, for whoever ended them
            first = one.problems[0]
            error = RunError(
                str(first["message"]), hint=first.get("hint"), code=str(first.get("code", "run"))
            )
            error.exit_code = one.code or error.exit_code
            raise error
    for rank, one in ended.items():
        if one.code in (130, 143):
            return f"worker {rank} was stopped from outside"
        if one.code and one.words:
            raise RunError(f"worker {rank} ended with exit code {one.code}: {one.words}")
    return "a worker was lost"


class _Group:
    """The keepers of all workers, and the room that the cluster has for them."""

    def __init__(self, ray: Any, workers: int, gpus: int) -> None:
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self.ray, self.workers = ray, workers
        self.keepers: list[Any] = []
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self.head, self.has_head = (host.strip("[]"), int(port)), True
        self.room = placement_group([{"CPU": 1, "GPU": gpus}] * workers, strategy="PACK")
        if not self.room.wait(PLACE_S):
            self.end()
            raise RunError(
                f"the cluster has had no room for {workers} workers in {PLACE_S:.0f} s",
                hint="see what it does: ray status",
            )
        made = ray.remote(Keeper)
        for rank in range(workers):
            where = PlacementGroupSchedulingStrategy(self.room, placement_group_bundle_index=rank)
            self.keepers.append(
                made.options(
                    num_cpus=1, num_gpus=gpus, max_concurrency=4, scheduling_strategy=where
                ).remote()
            )

    def run(self, words: Sequence[str], folder: Path, stop: Stop, emit: Emit) -> dict[int, Ended]:
        """How each worker has ended; when one is lost the others end soon, or are ended."""
        ray = self.ray
        try:
            address, port = ray.get(self.keepers[0].place.remote(), timeout=PLACE_S)
        except ray.exceptions.RayError as error:
            raise RunError(
                f"no worker could be started: {str(error).strip().splitlines()[-1]}",
                hint="is this version of aigc installed on all machines of the cluster?",
            ) from error
        common = {
            **{k: v for k, v in os.environ.items() if k.startswith("AIGC_") or k in CARRIED},
            FOLDER_VARIABLE: str(folder.resolve()),
            "TORCHELASTIC_RUN_ID": uuid.uuid4().hex,
            "MASTER_ADDR": address,
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(self.workers),
            "LOCAL_WORLD_SIZE": "1",
            "LOCAL_RANK": "0",
        }
        common.setdefault("OMP_NUM_THREADS", str(self._threads()))
        waiting = {
            keeper.run.remote(
                words, {**common, "RANK": str(n), "GROUP_RANK": str(n)}, os.getcwd()
            ): n
            for n, keeper in enumerate(self.keepers)
        }
        ended: dict[int, Ended] = {}
        deadline, told, looked = float("inf"), False, time.monotonic()
        while waiting and time.monotonic() < deadline:
            if time.monotonic() > looked + ASK_S:
                looked = time.monotonic()
                self._require_head(folder)
            done, _ = ray.wait(list(waiting), timeout=0.2)
            for ref in done:
                ended[waiting.pop(ref)] = one = self._ended(ref)
                if one.code != 0:
                    deadline = min(deadline, time.monotonic() + GRACE_S)
            self._pass_on(emit)
            if stop.asked and not told:
                told, deadline = True, time.monotonic() + SAVE_TIMEOUT_S
                for keeper in self.keepers:  # Ray's processes hold SIGINT back
                    keeper.signal.remote(int(signal.SIGTERM))
        return ended

    def _require_head(self, folder: Path) -> None:
        """
        Raises:
            RunError: the head of the cluster is gone, without which Ray would wait for a minute and
                then end this process without a word.
        """
        try:
            socket.create_connection(self.head, timeout=ASK_S).close()
        except OSError as error:
            self.has_head = False
            raise RunError(
                "the head of the Ray cluster is gone, and the workers with it",
                hint=f"continue from the last checkpoint with --resume {folder}",
                code="run.lost_cluster",
            ) from error

    def _threads(self) -> int:
        """Of each worker, so that together they use the cores there are."""
        return max(1, int(self.ray.cluster_resources()["CPU"]) // self.workers)

    def _ended(self, ref: Any) -> Ended:
        try:
            ended: Ended = self.ray.get(ref)
        except self.ray.exceptions.RayError:
            return Ended(None)
        return ended

    def _pass_on(self, emit: Emit) -> None:
        """The first worker's events."""
        with suppress(self.ray.exceptions.RayError):
            for event in self.ray.get(self.keepers[0].events.remote(), timeout=ASK_S):
                emit(event)

    def end(self) -> None:
        """Leave no worker behind, and give the room back."""
        from ray.util.placement_group import remove_placement_group

        if not self.has_head:
            return  # the workers end by themselves when their keepers do
        ending = [keeper.end.remote() for keeper in self.keepers]
        with suppress(self.ray.exceptions.RayError):
            self.ray.wait(ending, num_returns=len(ending), timeout=GRACE_S) if ending else None
        for keeper in self.keepers:
            self.ray.kill(keeper)
        with suppress(self.ray.exceptions.RayError):
            remove_placement_group(self.room)
