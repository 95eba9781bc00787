"""What can be expected to end a run, as one sentence with the remedy; and Lightning's remarks."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from aigc_cli.errors import AigcError, DiskFullError, InputError, RunError, out_of_memory
from aigc_cli.recipe.load import Recipe
from aigc_cli.registry import place_in_user_file
from aigc_cli.run.checkpoint import NO_SPACE
from aigc_cli.run.devices import World

ALONE = World()


class LostPeer(RunError):
    """Another process of the run is gone. Its own sentence, or the launcher's, is the cause."""

    code = "run.lost_peer"


@contextmanager
def quiet_threads() -> Iterator[None]:
    """A full disk is said once, by the run, and not again by the thread that writes TensorBoard."""
    before = threading.excepthook

    def hook(ended: threading.ExceptHookArgs) -> None:
        error = ended.exc_value
        if not (isinstance(error, OSError) and error.errno in NO_SPACE):
            before(ended)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


@contextmanager
def expected_failures(recipe: Recipe, world: World = ALONE) -> Iterator[None]:
    """Turn what can be expected of a run into one sentence with the remedy."""
    trainer = recipe.trainer
    try:
        yield
    except (AigcError, KeyboardInterrupt):
        raise
    except Exception as error:
        parts = 2 * trainer.accumulate
        # One device alone has tried that itself, see run/iteration.py.
        if world.size > 1 and trainer.global_batch % (parts * world.size) == 0:
            hint = f"set trainer.accumulate={parts}: the same result in less memory"
        else:
            hint = "lower trainer.global_batch, or make the network or the items smaller"
        if told := out_of_memory(error, hint):
            raise told from error
        if world.size > 1 and _lost_peer(error):
            raise LostPeer("another process of this run has ended") from error
        if isinstance(error, (EOFError, ConnectionError)) or "DataLoader worker" in str(error):
            raise RunError(
                "a process that prepares batches was killed from outside, perhaps for want of "
                "memory",
                hint="lower trainer.workers and continue with --resume",
                code="run.lost_worker",
            ) from error
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise DiskFullError(
                "no space left to write the logs of the run",
                hint="free some space and continue with --resume; the last checkpoint is intact",
            ) from error
        if place := place_in_user_file(error):
            raise InputError(
                f"{place}: {type(error).__name__}: {error}".partition("\n")[0],
                hint=f"`aigc model check {recipe.family}` tries what a family promises",
                code="family",
            ) from error
        raise


def _lost_peer(error: Exception) -> bool:
    """Whether a collective operation failed because another process is gone."""
    text = f"{type(error).__name__} {error}".lower()
    return any(word in text for word in ("gloo", "nccl", "distbackend", "distnetwork", "by peer"))


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hold back Lightning's advertisements and the warnings about choices made here on purpose."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for text in (
            "The '.*_dataloader' does not have many workers",  # the cache makes items cheap
            "Total length of .* across ranks is zero",  # only its end was left
            "The number of training batches",  # no Lightning logger is used
            ".*isinstance.treespec, LeafSpec.*",  # Lightning with a newer torch
            r"Found \d+ module.s. in eval mode",  # a frozen copy is meant to be
        ):
            warnings.filterwarnings("ignore", message=text)
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
