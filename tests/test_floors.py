"""Imports only go down the floors of docs/design.md, and light modules stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "aigc_cli"
FLOORS = (
    {"errors"},
    {"recipe", "registry", "specs"},
    {"catalog"},
    {"nn", "sampling", "metrics", "media", "text"},
    {"models", "data"},
    {"modalities"},
    {"augment"},
    {"run"},
    {"cli", "api", "__main__"},
)
TORCH_FREE = {"errors", "recipe", "registry", "specs", "catalog", "cli", "api", "__main__"}
FILES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py") if "_recipes" not in p.parts)


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imports(file: Path) -> list[tuple[str, bool]]:
    """(module, whether at module level) of every import in a file."""
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "aigc_cli":
                found += [(f"aigc_cli.{alias.name}", id(node) in top) for alias in node.names]
            else:
                found.append((node.module, id(node) in top))
    return found


LONGEST = 80
"""Lines of a function below its signature, which in cli/ declares all options of a command; how
many ways lead through one, ruff counts (C901).
"""


def test_no_function_is_longer_than_a_screen() -> None:
    long = []
    for file in FILES:
        for node in ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.body[0].lineno + 1
                if lines > LONGEST:
                    long.append(f"{file}:{node.lineno}: {node.name} has {lines} lines")
    assert long == []


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_only_go_down(file: Path) -> None:
    room = file.parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for module, _ in imports(file):
        if not module.startswith("aigc_cli.") or module == "aigc_cli.__version__":
            continue
        other = module.split(".")[1]
        assert floor_of(other) <= floor_of(room), f"{file} imports {module}, which is above it"
        if room in ("models", "data"):
            assert other != ({"models", "data"} - {room}).pop(), (
                f"{file} imports {module} beside it"
            )


@pytest.mark.parametrize("file", [f for f in FILES if f.parts[0] == "models"], ids=str)
def test_no_family_imports_another(file: Path) -> None:
    for module, _ in imports(file):
        if module.startswith("aigc_cli.models."):
            assert module.rsplit(".", 1)[1].startswith("_"), f"{file} imports {module}"


@pytest.mark.parametrize(
    "file", [f for f in FILES if f.parts[0].removesuffix(".py") in TORCH_FREE], ids=str
)
def test_light_floors_do_not_import_torch(file: Path) -> None:
    heavy = {"torch", "torchvision", "pytorch_lightning", "lightning_fabric", "numpy", "datasets"}
    for module, at_top in imports(file):
        assert not (at_top and module.split(".")[0] in heavy), f"{file} imports {module}"


@pytest.mark.parametrize("words", [["--help"], ["recipe", "ls"], ["--version"], ["run", "ls"]])
def test_looking_around_imports_no_torch(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom aigc_cli.cli import invoke\n"
        f"code = invoke({words!r})\n"
        "heavy = {'torch', 'pytorch_lightning', 'numpy'} & set(sys.modules)\n"
        "sys.exit(code or (f'imported {heavy}' if heavy else 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_sampling_and_evaluating_need_no_lightning() -> None:
    code = (
        "import sys\nimport aigc_cli.run.evaluate, aigc_cli.run.sample\n"
        "from aigc_cli.registry import families, load_family\n"
        "for name in families(): load_family(name)\n"
        "heavy = {'pytorch_lightning', 'lightning_fabric', 'torch._dynamo'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


OWN_ROOMS = (
    "specs",
    "modalities",
    "augment",
    "media",
    "data",
    "metrics",
    "models",
    "nn",
    "text",
    "recipe",
    "catalog",
)
"""Floors where files of one modality live; what is above and beside them must know none."""
MODALITIES = sorted(p.stem for p in (PACKAGE / "modalities").glob("[a-z]*.py"))
ALLOWED: dict[str, str] = {
    "cli/_agent.py": "a key of the JSON of recipe new",
    "cli/recipe.py": "a key of its own JSON",
    "run/encoders.py": "networks for images, and for texts, that are known by their names",
    "run/graph.py": "the name of an input; only networks of images have graphs",
    "run/job_files.py": "a field of containers in Kubernetes",
    "run/serving/completions.py": "a field of the shape that clients of chat services speak",
}
"""Files above that name a modality, each with its reason."""


def names_in(file: Path) -> set[str]:
    """Modalities that code names: as a string of its own, or by importing one's file."""
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    found = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in MODALITIES
    }
    for module, _ in imports(file):
        parts = module.split(".")
        if parts[1:2] == ["modalities"] and parts[-1] in MODALITIES:
            found.add(parts[-1])
    return found


def test_no_file_above_the_modalities_names_one() -> None:
    above = [f for f in FILES if f.parts[0] not in OWN_ROOMS]
    naming = {str(file): names for file in above if (names := names_in(file))}
    unexplained = {file: names for file, names in naming.items() if file not in ALLOWED}
    assert not unexplained
    assert set(ALLOWED) <= set(naming), "a reason that is no longer needed"
