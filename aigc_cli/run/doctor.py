"""`aigc doctor`: whether training works here, what is missing, and what installs it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from aigc_cli import __version__
from aigc_cli.errors import InputError, MissingError, Problem
from aigc_cli.run.environment import NAMES, processor, version

Facts = dict[str, Any]

DISTRIBUTION = "aigc-cli"
IMPORTS = {  # in the order in which they need each other, with what to install together
    "torch": "torch torchvision",
    "torchvision": "torch torchvision",
    "pytorch_lightning": "pytorch-lightning torchmetrics",
}
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
VARIABLES = (
    "AIGC_PATH",
    "AIGC_CACHE",
    "AIGC_DATA",
    "AIGC_WEIGHTS",
    "AIGC_DOWNLOAD",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
)
PROMISE = (
    "nothing leaves this machine: aigc has no telemetry and looks for no updates; "
    "only aigc data get, data named hf:... and, with AIGC_DOWNLOAD=1, published weights download"
)


def examine(*, test: bool = False) -> Facts:
    """All findings. `problems` keep training from working, `warnings` do not.

    With `test` the packages are imported, every device computes, and weights of metrics are loaded;
    without, torch is not imported.
    """
    requirements, extras = read_requirements()
    problems = list(lacking(requirements))
    facts: Facts = {
        "versions": {
            "python": platform.python_version(),
            DISTRIBUTION: __version__,
            **{name: version(name) for name in requirements or NAMES[1:]},
        },
        "system": platform.platform(),
        "disk": {"folder": str(Path.cwd()), "free_bytes": shutil.disk_usage(".").free},
        "extras": extras,
        "variables": {n: os.environ[n] for n in (*OFFLINE, *VARIABLES) if n in os.environ},
        "offline": any(
            os.environ.get(n, "").upper() in {"1", "ON", "YES", "TRUE"} for n in OFFLINE
        ),
        "network": PROMISE,
        "processor": {"name": processor(), "cores": os.cpu_count()},
        "cuda": cuda(),
        "weights": weights(),
        "tested": test,
    }
    if version("psutil"):
        facts["memory"] = memory()
    warnings: list[Problem] = []
    if test and not problems:
        problems = list(not_importable())
        warnings = list(broken_torchaudio())
    if test and not problems:
        facts |= {"devices": list(devices()), "cache": cache(), "metrics": list(metrics())}
        problems += cannot_compute(facts["devices"])
        warnings += [*idle_gpu(facts["devices"], facts["cuda"]), *no_cache(facts["cache"])]
    return {
        "ok": not problems,
        **facts,
        "problems": [problem.as_dict() for problem in problems],
        "warnings": [warning.as_dict() for warning in warnings],
    }


def require_working(facts: Facts) -> None:
    """Raises: MissingError: training does not work here; says why and what installs the rest."""
    if facts["problems"]:
        hints = dict.fromkeys(problem["hint"] for problem in facts["problems"])
        raise MissingError(
            "training does not work here: " + "; ".join(p["message"] for p in facts["problems"]),
            hint="; ".join(hints),
        )


def read_requirements() -> tuple[dict[str, str], list[Facts]]:
    """{distribution: version it must have} of the core, and each extra with what it lacks."""
    from packaging.requirements import Requirement

    try:
        about = metadata.metadata(DISTRIBUTION)
    except metadata.PackageNotFoundError:  # run from its source, not installed
        return {}, []
    asked = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]

    def of(extra: str) -> dict[str, str]:
        wanted = (r for r in asked if r.marker is None or r.marker.evaluate({"extra": extra}))
        return {r.name: str(r.specifier) for r in wanted}

    core = of("")
    rows = []
    for extra in about.get_all("Provides-Extra") or ():
        own = {name: bounds for name, bounds in of(extra).items() if name not in core}
        missing = {name: bounds for name, bounds in own.items() if not fits(name, bounds)}
        install = install_line(missing) if missing else None
        rows.append({"extra": extra, "missing": list(missing), "install": install})
    return core, rows


def install_line(wanted: dict[str, str]) -> str:
    """What installs the distributions, wherever aigc itself came from."""
    return "pip install " + " ".join(f'"{name}{bounds}"' for name, bounds in wanted.items())


def fits(name: str, bounds: str) -> bool:
    """Whether a distribution is here in a version within `bounds`."""
    from packaging.specifiers import SpecifierSet

    found = version(name)
    return found is not None and SpecifierSet(bounds).contains(found, prereleases=True)


def lacking(requirements: dict[str, str]) -> Iterator[Problem]:
    """Core packages that are absent, or too old or too new."""
    wrong = {name: bounds for name, bounds in requirements.items() if not fits(name, bounds)}
    for name, bounds in wrong.items():
        found = version(name)
        state = f"is {found}, which is not {bounds}" if found else "is not installed"
        yield Problem(f"{name} {state}", code="missing.package", hint=install_line(wrong))


def not_importable() -> Iterator[Problem]:
    """The first of the large packages that does not import; builds that do not match show here."""
    for name, together in IMPORTS.items():
        if error := import_error(name):
            beside = f" beside torch {version('torch')}" if name != "torch" else ""
            yield Problem(
                f"{name} does not import{beside}: {error}",
                code="missing.package",
                hint=f"install builds that match: pip install --force-reinstall {together}",
            )
            return


def import_error(name: str) -> str | None:
    """First line of what goes wrong, whatever it is: native libraries raise all sorts."""
    try:
        importlib.import_module(name)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return None


def memory() -> Facts:
    import psutil

    found = psutil.virtual_memory()
    return {"total_bytes": found.total, "free_bytes": found.available}


def devices() -> Iterator[Facts]:
    """The processor and every GPU, and what goes wrong with a training step on it, if anything."""
    import torch

    from aigc_cli.recipe.sections import Trainer
    from aigc_cli.run.devices import choose_precision

    yield {
        "device": "cpu",
        "name": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16": choose_precision(Trainer(max_steps=1, device="cpu")) == "bf16",
        "error": step_error("cpu"),
    }
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        error = step_error(f"cuda:{number}")
        yield {
            "device": f"cuda:{number}",
            "name": about.name,
            "capability": f"{about.major}.{about.minor}",
            "total_bytes": about.total_memory,
            "free_bytes": None if error else torch.cuda.mem_get_info(number)[0],
            "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
            "error": error,
        }


def step_error(device: str) -> str | None:
    """What a convolution and its gradient fail with, as on a GPU that torch was not built for."""
    import torch

    try:
        x = torch.ones(1, 3, 8, 8, device=device)
        weight = torch.ones(4, 3, 3, 3, device=device, requires_grad=True)
        torch.nn.functional.conv2d(x, weight).sum().backward()
        assert weight.grad is not None
        weight.grad.sum().item()  # waits for the device
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return None


def cuda() -> Facts:
    """The CUDA that torch was built for, and NVIDIA's driver and GPUs, where there are any; torch
    is not imported for it.
    """
    return {"built": built_for(), "driver": driver(), "gpus": gpus()}


def built_for() -> str | None:
    """`torch.version.cuda`, read from the file."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    try:
        text = Path(found.origin).with_name("version.py").read_text()
    except OSError:
        return None
    match = re.search(r"^cuda[^=\n]*= *['\"](.*)['\"]", text, re.MULTILINE)
    return match[1] if match else None


def gpus() -> list[str]:
    """Names of NVIDIA's GPUs, as the driver knows them."""
    return _nvidia("name")


def driver() -> str | None:
    """Version of NVIDIA's driver."""
    return next(iter(_nvidia("driver_version")), None)


def _nvidia(field: str) -> list[str]:
    """A field of every GPU; none without a driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def cannot_compute(found: list[Facts]) -> Iterator[Problem]:
    for device in found:
        if device["error"]:
            yield Problem(
                f"{device['device']} ({device['name']}) cannot compute: {device['error']}",
                code="missing.device",
                hint="use --device cpu, or install a torch that was built for this device",
            )


def idle_gpu(found: list[Facts], cuda: Facts) -> Iterator[Problem]:
    """A driver is here, but torch finds no GPU that nobody has hidden."""
    if cuda["driver"] and len(found) == 1 and "CUDA_VISIBLE_DEVICES" not in os.environ:
        built = f"for CUDA {cuda['built']}" if cuda["built"] else "without CUDA"
        yield Problem(
            f"there is an NVIDIA driver {cuda['driver']}, but torch {version('torch')}, built "
            f"{built}, finds no GPU",
            code="missing.device",
            hint="update the driver, or install a torch that was built for its CUDA",
        )


def broken_torchaudio() -> Iterator[Problem]:
    """Built for another torch, torchaudio breaks the packages that look for it."""
    found = version("torchaudio")
    if found and not import_error("torch") and (error := import_error("torchaudio")):
        yield Problem(
            f"torchaudio {found} does not import beside torch {version('torch')}: {error}",
            code="missing.package",
            hint="aigc does not need it: pip uninstall torchaudio",
        )


def cache() -> Facts | None:
    """Where prepared images are kept, if they can be."""
    from aigc_cli.data._cache import cache_folder

    folder = cache_folder("auto")
    if folder is None:
        return None
    return {"folder": str(folder), "free_bytes": shutil.disk_usage(folder).free}


def no_cache(found: Facts | None) -> Iterator[Problem]:
    if found is None:
        yield Problem(
            "the cache folder cannot be written, so images are prepared anew in every run",
            code="missing.cache",
            hint="set AIGC_CACHE to a folder that can be written",
        )


def weights() -> Facts:
    """The folder for weights of metrics, and the files of weights in it."""
    folder = Path(os.environ.get("AIGC_WEIGHTS") or "weights")
    files = [p.name for p in folder.glob("*") if p.suffix in (".pth", ".pt")]
    return {"folder": str(folder), "files": sorted(files)}


def metrics() -> Iterator[Facts]:
    """Every metric of `aigc evaluate`, and what it lacks; those with weights really load them."""
    from aigc_cli import registry
    from aigc_cli.metrics.find import open_metrics

    for name in (n for n, file in registry.metrics().items() if not file.group):
        row: Facts = {"metric": name, "ready": True}
        try:
            open_metrics([name])[0].prepare()
        except (InputError, MissingError) as error:
            row |= {"ready": False, "message": error.message, "hint": error.hint}
        yield row


def doctor_lines(facts: Facts) -> Iterator[tuple[str, str]]:
    """The findings as names and texts."""
    yield from _lines(facts)
    for warning in facts["warnings"]:
        yield "warning", warning["message"]
        yield "hint", warning["hint"]


def _lines(facts: Facts) -> Iterator[tuple[str, str]]:
    versions, disk = facts["versions"], facts["disk"]
    yield "aigc", f"{versions[DISTRIBUTION]}, Python {versions['python']}, {facts['system']}"
    yield "packages", ", ".join(f"{k} {v or 'missing'}" for k, v in list(versions.items())[2:])
    yield "disk", f"{_gb(disk['free_bytes'])} free in {disk['folder']}"
    yield from _hardware(facts)
    for extra in facts["extras"]:
        name, missing = f"[{extra['extra']}]", ", ".join(extra["missing"])
        yield name, f"lacks {missing}; {extra['install']}" if missing else "installed"
    yield "variables", " ".join(f"{k}={v}" for k, v in facts["variables"].items()) or "none set"
    yield "network", facts["network"] + (" (now off)" if facts["offline"] else "")
    if not facts["ok"]:
        yield "training", "does not work here"
    elif facts["tested"]:
        yield "training", "works here"
    else:
        yield "training", "the packages fit; to try the devices: aigc doctor --test"


def _hardware(facts: Facts) -> Iterator[tuple[str, str]]:
    """Memory, processor and GPUs; what only a test knows, after a test."""
    weights, cuda = facts["weights"], facts["cuda"]
    if memory := facts.get("memory"):
        yield "memory", f"{_gb(memory['free_bytes'])} free of {_gb(memory['total_bytes'])}"
    if cache := facts.get("cache"):
        yield "cache", f"{_gb(cache['free_bytes'])} free in {cache['folder']}"
    if "devices" in facts:
        for device in facts["devices"]:
            yield device["device"], _device(device)
    else:
        yield "cpu", f"{facts['processor']['name']}, {facts['processor']['cores']} cores"
    built = f"torch is built for {cuda['built']}" if cuda["built"] else "torch is built without it"
    found = ", ".join(cuda["gpus"]) or "no GPU found"
    yield "cuda", f"{built}, driver {cuda['driver'] or 'not found'}; {found}"
    yield "weights", f"{', '.join(weights['files']) or 'none'} in {weights['folder']}"
    if "metrics" in facts:
        yield "metrics", f"ready: {', '.join(r['metric'] for r in facts['metrics'] if r['ready'])}"
    for row in facts.get("metrics", ()):
        if not row["ready"]:
            yield row["metric"], f"{row['message']}; {row['hint']}"


def _device(row: Facts) -> str:
    parts = [row["name"]]
    if row["device"] == "cpu":
        parts.append(f"{row['cores']} cores, {row['threads']} threads")
    else:
        free = row["free_bytes"]
        room = "" if free is None else f"{_gb(free)} free of "
        parts.append(f"{room}{_gb(row['total_bytes'])}, compute capability {row['capability']}")
    parts.append("bf16 in hardware" if row["bf16"] else "no bf16 in hardware")
    return ", ".join(parts)


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
