"""Several processes on this machine: one parent that starts the workers and keeps their exit code.

torch's elastic agent starts, watches and ends the workers. Lightning's own launcher is not used:
when
rank 1 exits with 3, it kills rank 0 and reports 137; torchrun reports 1 whatever happened.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from aigc_cli.errors import Interrupted, RunError
from aigc_cli.run.folder import FOLDER_VARIABLE

SAVE_TIMEOUT_S = 600  # how long workers may take to save after a signal


def launch(processes: int, arguments: Sequence[str], folder: Path | None = None) -> int:
    """Run `aigc <arguments>` in `processes` workers that share the run `folder`, if they train;
    the first failed worker's exit code.

    Raises:
        Interrupted: a signal came; it was handed to the workers, which have saved and ended.
        RunError: a worker was killed from outside.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if folder is not None:
        os.environ[FOLDER_VARIABLE] = str(folder)
    again = f"with --resume {folder}" if folder is not None else None
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SAVE_TIMEOUT_S))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    logging.getLogger("torch.distributed.launcher").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "aigc_cli", *arguments)
    except ChildFailedError as failed:
        rank, first = failed.get_first_failure()
        if first.exitcode < 0:
            name = signal.Signals(-first.exitcode).name
            raise RunError(
                f"worker {rank} was killed by {name}; the others were stopped",
                hint=f"continue from the last checkpoint with --resume {folder}"
                if folder
                else None,
                code="run.lost_worker",
            ) from failed
        return first.exitcode
    except SignalException as ending:
        number = int(ending.sigval)
        raise Interrupted(
            number,
            f"stopped by {signal.Signals(number).name}"
            + ("; the workers have saved their state" if folder else ""),
            hint=again and f"continue {again}",
        ) from ending
    return 0


def end_with_parent(grace_s: float = SAVE_TIMEOUT_S) -> None:
    """In a worker: end like after SIGTERM when the launcher is gone, as after `kill -9` of it.

    Workers are sessions of their own, so nothing else would end them.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)  # saves, if the others are still there
        time.sleep(grace_s)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="end_with_parent").start()
