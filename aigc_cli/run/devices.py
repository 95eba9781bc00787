"""Which devices a run uses, and in whose process: alone, under torchrun, under SLURM."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from aigc_cli.errors import InputError, MissingError
from aigc_cli.recipe.sections import Trainer


@dataclass(frozen=True)
class World:
    """This process among all that train together."""

    launcher: Literal["none", "torchrun", "slurm"] = "none"
    rank: int = 0
    size: int = 1
    local_size: int = 1
    nodes: int = 1

    @property
    def is_worker(self) -> bool:
        return self.launcher != "none"


def find_world(env: dict[str, str] | None = None) -> World:
    """Read the environment that torchrun (and our own launcher) or srun gives its processes.

    An interactive SLURM shell is not a worker: srun there starts one task named bash.
    """
    env = dict(os.environ) if env is None else env
    if "TORCHELASTIC_RUN_ID" in env:
        size, local = int(env["WORLD_SIZE"]), int(env["LOCAL_WORLD_SIZE"])
        return World("torchrun", int(env["RANK"]), size, local, max(1, size // local))
    if "SLURM_PROCID" in env and env.get("SLURM_JOB_NAME") not in {"bash", "interactive", None}:
        size, nodes = int(env.get("SLURM_NTASKS", "1")), int(env.get("SLURM_NNODES", "1"))
        return World("slurm", int(env["SLURM_PROCID"]), size, max(1, size // nodes), nodes)
    return World()


def choose_device(name: str) -> Literal["cpu", "cuda", "mps"]:
    """What `auto` stands for, or the name itself. An Apple GPU is taken only where it is asked for:
    the project has never been run on one.

    Raises:
        MissingError: CUDA or mps was asked for and is not there.
    """
    import torch

    if name == "mps":
        if not torch.backends.mps.is_available():
            raise MissingError(
                "trainer.device is mps, but torch finds no Apple GPU on this machine",
                hint="use --device cpu",
                code="missing.device",
            )
        return "mps"
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise MissingError(
            "trainer.device is cuda, but torch finds no CUDA device on this machine",
            hint="use --device cpu, or see what is missing with: aigc doctor",
            code="missing.device",
        )
    return "cuda"


def choose_devices(trainer: Trainer) -> int:
    """Number of processes on this machine.

    Raises:
        MissingError: more GPUs are asked for than the machine has.
    """
    import torch

    device = choose_device(trainer.device)
    if device == "cpu":
        return 1 if trainer.devices == "auto" else trainer.devices
    if device == "mps":
        if trainer.devices not in ("auto", 1):
            raise MissingError(
                f"trainer.devices is {trainer.devices}, and an Apple GPU is one device",
                hint="use --devices 1",
                code="missing.device",
            )
        return 1
    count = torch.cuda.device_count()
    if trainer.devices == "auto":
        return count
    if trainer.devices > count:
        raise MissingError(
            f"trainer.devices is {trainer.devices}, but this machine has {count} CUDA device(s)",
            hint=f"use --devices {count}",
            code="missing.device",
        )
    return trainer.devices


def choose_precision(trainer: Trainer) -> Literal["fp32", "bf16", "fp16"]:
    """The precision `auto` stands for here: bf16 where the hardware multiplies it, fp32 elsewhere.

    Raises:
        InputError: fp16 elsewhere than on CUDA, where it has no loss scaler.
    """
    from aigc_cli.nn.precision import multiplies_bf16

    device = choose_device(trainer.device)
    if trainer.precision == "fp16" and device != "cuda":
        raise InputError(
            "trainer.precision is fp16, which needs a GPU", hint=f"use bf16 or fp32 on {device}"
        )
    if trainer.precision != "auto":
        return trainer.precision
    return "bf16" if multiplies_bf16(device) else "fp32"


def share_of_batch(trainer: Trainer, world: int) -> int:
    """Items of one step on one device.

    Raises:
        InputError: the global batch cannot be cut evenly; names the nearest that can.
    """
    pieces = world * trainer.accumulate
    if trainer.global_batch % pieces:
        below = trainer.global_batch // pieces * pieces
        near = f"{below} or {below + pieces}" if below else str(pieces)
        raise InputError(
            f"trainer.global_batch is {trainer.global_batch}, which {world} device(s) with "
            f"{trainer.accumulate} accumulated part(s) cannot share evenly",
            hint=f"use {near}",
        )
    return trainer.global_batch // world


def check_strategy(trainer: Trainer, world: World) -> None:
    """See that there are enough devices for the strategy, before anything is written.

    Raises:
        InputError: fsdp with one device.
    """
    if trainer.strategy == "fsdp" and world.size == 1:
        raise InputError(
            "trainer.strategy is fsdp, which needs several devices",
            hint="use --devices 2 or more",
        )


def autocast(trainer: Trainer) -> Callable[[], AbstractContextManager[None]]:
    """What a loss is computed in, each time anew: within one context autocast remembers the casts
    of weights, which spares a network that is called twice the second, and which an optimizer's
    step makes old.
    """
    import torch

    precision = choose_precision(trainer)
    if precision == "fp32":
        return nullcontext
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return partial(torch.autocast, choose_device(trainer.device), dtype)


def lightning_arguments(trainer: Trainer, world: World, *, find_unused: bool) -> dict[str, Any]:
    """accelerator, devices, num_nodes, strategy, plugins for `pl.Trainer`; of the precision it only
    learns that losses in fp16 are scaled.
    """
    from lightning_fabric.plugins.environments import (
        LightningEnvironment,
        SLURMEnvironment,
        TorchElasticEnvironment,
    )
    from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy

    from aigc_cli.run.training import Scaled

    environment = {
        "none": LightningEnvironment,
        "torchrun": TorchElasticEnvironment,
        "slurm": lambda: SLURMEnvironment(auto_requeue=False),  # run/stop.py requeues
    }[world.launcher]()
    strategy: Any = "auto"
    if trainer.strategy == "fsdp":
        strategy = ModelParallelStrategy(
            data_parallel_size=world.size, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    elif world.size > 1:
        strategy = DDPStrategy(find_unused_parameters=find_unused, gradient_as_bucket_view=True)

    plugins: list[Any] = [environment]
    if choose_precision(trainer) == "fp16":
        plugins.append(Scaled("16-mixed", choose_device(trainer.device)))
    return {
        "accelerator": choose_device(trainer.device),
        "devices": world.local_size,
        "num_nodes": world.nodes,
        "strategy": strategy,
        "plugins": plugins,
        # torch has no batch statistics over several CPUs
        "sync_batchnorm": world.size > 1 and choose_device(trainer.device) == "cuda",
    }
