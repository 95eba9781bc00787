"""Job files are what their clusters read, and start the same command at every start."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from aigc_cli.cli._app import invoke

Capture = pytest.CaptureFixture[str]
K8S = ("launch", "k8s", "edsr_baseline_x2", "--image", "here/aigc:1", "--out", "/shared/big")


def test_a_slurm_script_is_bash_and_starts_a_run_that_can_be_queued_again(
    tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "job.sh"
    words = ["launch", "slurm", "edsr_baseline_x2", "model.lr=2e-4", "--nodes", "2", "--gpus", "8"]
    assert invoke([*words, "--out", "runs/a b", "--file", str(file)]) == 0
    assert capsys.readouterr().out.strip() == str(file)
    text = file.read_text()
    bash = shutil.which("bash")
    assert bash
    subprocess.run([bash, "-n", file], check=True)
    head = [line.split()[1] for line in text.splitlines() if line.startswith("#SBATCH")]
    assert {"--nodes=2", "--ntasks-per-node=8", "--requeue", "--signal=SIGUSR1@90"} <= set(head)
    last = "srun aigc train edsr_baseline_x2 --out 'runs/a b' --resume auto model.lr=2e-4"
    assert text.splitlines()[-1] == last


def test_pods_of_a_kubernetes_job_find_the_first_of_them(capsys: Capture) -> None:
    assert invoke([*K8S, "--nodes", "4", "--gpus", "2"]) == 0
    service, job = yaml.safe_load_all(capsys.readouterr().out)
    assert (service["kind"], service["spec"]["clusterIP"]) == ("Service", "None")
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (4, 4)
    pod: Any = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    name = job["metadata"]["name"]
    assert f"--master-addr={name}-0.{pod['subdomain']}" in container["command"]
    assert container["command"][-2:] == ["--resume", "auto"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    selected = job["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= selected.items()


def test_a_job_for_ray_is_a_script_or_with_an_image_a_manifest(
    tmp_path: Path, capsys: Capture
) -> None:
    words = ["launch", "ray", "edsr_baseline_x2", "--nodes", "2", "--gpus", "4", "--out"]
    file = tmp_path / "job.sh"
    assert invoke([*words, "runs/a b", "--file", str(file)]) == 0
    capsys.readouterr()
    bash = shutil.which("bash")
    assert bash
    subprocess.run([bash, "-n", file], check=True)
    train = "--out {} --resume auto --engine ray --workers 8"
    assert (
        file.read_text()
        .splitlines()[-1]
        .endswith('-- env -C "$PWD" aigc train edsr_baseline_x2 ' + train.format("'runs/a b'"))
    )
    assert invoke([*words, "/shared/big", "--image", "here/aigc:1"]) == 0
    job = yaml.safe_load(capsys.readouterr().out)
    assert job["spec"]["entrypoint"] == "aigc train edsr_baseline_x2 " + train.format("/shared/big")
    cluster = job["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] == 2
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert workers["rayStartParams"] == {"num-cpus": "4"}
    for group, gpus in ((cluster["headGroupSpec"], None), (workers, 4)):
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] == "here/aigc:1"
        assert container["resources"]["limits"].get("nvidia.com/gpu") == gpus
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in group["template"]["spec"]["volumes"]}


@pytest.mark.parametrize(
    "words, told",
    [
        (["launch", "slrm", "edsr_x2"], "did you mean 'slurm'"),
        (["launch", "slurm", "edsr_x"], "edsr_x"),
        (["launch", "slurm", "edsr_x2", "model.lrr=1"], "did you mean 'lr'"),
        (["launch", "slurm", "edsr_x2", "--time", "4h"], "is not HH:MM:SS"),
        (["launch", "slurm", "edsr_x2", "--gpus", "7"], "cannot be shared by 7"),
        (["launch", "k8s", "edsr_x2"], "--image"),
        ([*K8S, "--name", "Bad_Name"], "lower-case letters"),
        ([*K8S[:-1], "runs/a"], "is not absolute"),
    ],
)
def test_mistakes_are_told_before_a_cluster_finds_them(
    words: list[str], told: str, capsys: Capture
) -> None:
    assert invoke(words) == 2
    assert told in capsys.readouterr().err
