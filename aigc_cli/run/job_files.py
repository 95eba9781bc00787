"""Job files for clusters: `aigc launch`. Written, never sent.

Every job ends as `aigc train RECIPE --out DIR --resume auto`, the same line for the first start and
for each one after a requeue or a lost machine.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath

import yaml

from aigc_cli.errors import InputError

PORT = 29500
_TIME = re.compile(r"(\d+-)?\d{1,3}:\d\d:\d\d")


@dataclass(frozen=True)
class Cluster:
    """Where a recipe is to be trained, and with how much."""

    recipe: str
    overrides: tuple[str, ...]
    out: PurePosixPath
    name: str
    nodes: int = 1
    gpus: int = 1
    cpus: int = 6
    memory_gb: int = 32
    time: str = "04:00:00"
    image: str | None = None
    volume: str | None = None

    @property
    def command(self) -> list[str]:
        return ["train", self.recipe, "--out", str(self.out), "--resume", "auto", *self.overrides]


def slurm(job: Cluster) -> str:
    """An sbatch script: 90 seconds before its time is up the run saves and is queued again.

    Raises:
        InputError: a time that SLURM does not read.
    """
    if not _TIME.fullmatch(job.time):
        raise InputError(f"--time {job.time}: is not HH:MM:SS or D-HH:MM:SS")
    per_node = max(job.gpus, 1)
    facts = [
        f"--job-name={job.name}",
        f"--nodes={job.nodes}",
        f"--ntasks-per-node={per_node}",
        *([f"--gpus-per-node={job.gpus}"] if job.gpus else []),
        f"--cpus-per-task={job.cpus}",
        f"--mem={job.memory_gb}G",
        f"--time={job.time}",
        "--signal=SIGUSR1@90",
        "--requeue",
        "--open-mode=append",
        "--output=%x-%j.log",
    ]
    lines = [f"#SBATCH {fact}" for fact in facts]
    return "\n".join(["#!/bin/bash", *lines, "", f"srun {shlex.join(['aigc', *job.command])}", ""])


def kubernetes(job: Cluster) -> str:
    """An indexed Job with one pod a machine, which find each other by a headless Service.

    Raises:
        InputError: no image, or a name or a folder that Kubernetes does not take.
    """
    _require_pods(job)
    per_node = max(job.gpus, 1)
    run = [
        "torchrun",
        f"--nnodes={job.nodes}",
        "--node-rank=$(JOB_COMPLETION_INDEX)",
        f"--nproc-per-node={per_node}",
        f"--master-addr={job.name}-0.{job.name}",
        f"--master-port={PORT}",
        "-m",
        "aigc_cli",
        *job.command,
    ]
    pod = {
        "subdomain": job.name,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 120,
        **_pod(job, {"name": "train", "command": run}, job.cpus * per_node, job.gpus),
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": job.name},
        "spec": {"clusterIP": "None", "selector": {"job-name": job.name}},
    }
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job.name},
        "spec": {
            "completionMode": "Indexed",
            "completions": job.nodes,
            "parallelism": job.nodes,
            "backoffLimit": 10 * job.nodes,
            "template": {"metadata": {"labels": {"job-name": job.name}}, "spec": pod},
        },
    }
    return yaml.safe_dump_all([service, manifest], sort_keys=False)


def ray(job: Cluster) -> str:
    """A RayJob for KubeRay where an image is named, else a script that submits to a cluster.

    Raises:
        InputError: a name or a folder that Kubernetes does not take.
    """
    per_node = max(job.gpus, 1)
    workers = ["--engine", "ray", "--workers", str(job.nodes * per_node)]
    command = shlex.join(["aigc", *job.command, *workers])
    if job.image is None:
        return (
            "#!/bin/bash\n"
            "# RAY_API_SERVER_ADDRESS=http://HEAD:8265 names the cluster; aigc is installed\n"
            "# on its machines, and they see this folder.\n"
            f'ray job submit --no-wait -- env -C "$PWD" {command}\n'
        )
    _require_pods(job)

    def group(cpus: int, gpus: int, params: dict[str, str]) -> dict[str, object]:
        container: dict[str, object] = {"name": "ray"}
        return {"rayStartParams": params, "template": {"spec": _pod(job, container, cpus, gpus)}}

    manifest = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": job.name},
        "spec": {
            "entrypoint": command,
            "shutdownAfterJobFinishes": True,
            "backoffLimit": 10,
            "rayClusterSpec": {
                "headGroupSpec": group(2, 0, {"num-cpus": "0"}),  # it trains nothing
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": job.nodes,
                        "minReplicas": job.nodes,
                        "maxReplicas": job.nodes,
                        **group(job.cpus * per_node, job.gpus, {"num-cpus": str(per_node)}),
                    }
                ],
            },
        },
    }
    return yaml.safe_dump(manifest, sort_keys=False)


def _require_pods(job: Cluster) -> None:
    """
    Raises:
        InputError: no image, or a name or a folder that Kubernetes does not take.
    """
    if job.image is None:
        raise InputError("launch k8s needs an image that has aigc", hint="name it with --image")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?", job.name):
        raise InputError(
            f"--name {job.name}: is not of lower-case letters, digits and inner dashes"
        )
    if not job.out.is_absolute():
        raise InputError(
            f"--out {job.out}: is not absolute, and pods have no common folder but a disk",
            hint="such as --out /shared/run, where the disk is then mounted at /shared",
        )


def _pod(job: Cluster, container: dict[str, object], cpus: int, gpus: int) -> dict[str, object]:
    """A pod of one container with its share of a machine, the shared disk and shared memory."""
    limits: dict[str, object] = {"cpu": cpus, "memory": f"{job.memory_gb}Gi"}
    limits |= {"nvidia.com/gpu": gpus} if gpus else {}
    mounts = [
        {"name": "shared", "mountPath": str(job.out.parent)},
        {"name": "memory", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    resources = {"limits": limits, "requests": dict(limits)}
    return {
        "containers": [
            {"image": job.image, **container, "resources": resources, "volumeMounts": mounts}
        ],
        "volumes": [
            {"name": "shared", "persistentVolumeClaim": {"claimName": job.volume or job.name}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ],
    }
