"""`aigc launch`: a job file for a cluster, ready to be sent."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from aigc_cli.cli._output import Debug, Json, Output, Overrides, Quiet, RecipeName
from aigc_cli.errors import InputError, did_you_mean

CLUSTERS = ("slurm", "k8s", "ray")


def launch(
    cluster: Annotated[str, typer.Argument(metavar="slurm|k8s|ray", show_default=False)],
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Annotated[
        Path, typer.Option("--out", help="Run folder, on a disk that all machines share.")
    ] = Path("runs/job"),
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Output file; printed without.", show_default=False),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the job; the recipe's without.", show_default=False)
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs, and processes, of each machine.")] = 1,
    cpus: Annotated[int, typer.Option(min=1, help="Cores for each process.")] = 6,
    memory: Annotated[int, typer.Option(min=1, help="GB of each machine.")] = 32,
    time: Annotated[str, typer.Option(help="slurm: Longest time, HH:MM:SS.")] = "04:00:00",
    image: Annotated[
        str | None,
        typer.Option(
            help="k8s: Container image with aigc; ray: also, for a RayJob instead of a script.",
            show_default=False,
        ),
    ] = None,
    volume: Annotated[
        str | None,
        typer.Option(
            help="k8s, ray: Claim of the shared disk; the name without.", show_default=False
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a job file that trains a recipe on a cluster, and goes on after every interruption.

    Nothing is sent: `sbatch FILE`, `kubectl apply -f FILE` or `bash FILE` does that."""
    from aigc_cli.media.files import write_bytes
    from aigc_cli.recipe.load import load_recipe
    from aigc_cli.run import job_files

    if cluster not in CLUSTERS:
        raise InputError(
            f"there is no job file for '{cluster}'", hint=did_you_mean(cluster, CLUSTERS)
        )
    checked = load_recipe(recipe, overrides or ())
    if not checked.is_trained:
        raise InputError(f"'{recipe}' needs no training", hint="aigc sample works on it")
    batch, processes = checked.trainer.global_batch, nodes * max(gpus, 1)
    if batch % (processes * checked.trainer.accumulate):
        raise InputError(
            f"trainer.global_batch={batch} cannot be shared by {processes} processes",
            hint=f"set trainer.global_batch={-(-batch // processes) * processes}",
        )
    short = name or checked.name.replace("_", "-").lower()
    job = job_files.Cluster(
        recipe, tuple(overrides or ()), PurePosixPath(out.as_posix()), short,
        nodes, gpus, cpus, memory, time, image, volume,
    )  # fmt: skip
    writers = {"slurm": job_files.slurm, "k8s": job_files.kubernetes, "ray": job_files.ray}
    text = writers[cluster](job)
    if file is not None:
        write_bytes(file, text.encode())
    Output(json, quiet).result(
        {"job": text, "file": file and str(file)}, str(file or text.rstrip())
    )
