"""`aigc model push`: an exported model to a repository of Hugging Face's hub, by its own library.

Only files of a model are sent, and none that names a path of this machine. HF_ENDPOINT, HF_TOKEN,
HF_HOME and what `hf auth login` kept mean what they mean to that library; the token is given to
the hub alone.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aigc_cli.errors import InputError, MissingError, RunError
from aigc_cli.models.text._network import NetworkConfig
from aigc_cli.recipe.load import recipe_from_dict
from aigc_cli.run.base import load_whole
from aigc_cli.run.export import export_model
from aigc_cli.run.give import Asked, give_model
from aigc_cli.run.hub import FILES
from aigc_cli.run.paths import find_checkpoint

CARD = "README.md"
SENT = (
    *FILES, CARD, "recipe.yaml", "spec.json", "*.onnx", "*.gguf", "generation_config.json",
    "adapter_config.json",
)  # fmt: skip
WEIGHTS = ("*.safetensors", "*.onnx", "*.gguf")
TEXTS = (CARD, "recipe.yaml", "config.json", "adapter_config.json")
PLACE = re.compile(r"""(?<![\w:/.])(?:~|/[\w.-]+|[A-Za-z]:)[/\\][^\s"'`,;|)\]}]+""")


@dataclass(frozen=True)
class Push:
    """What would be sent where."""

    folder: Path
    repo: str
    private: bool
    files: dict[str, int]
    """Bytes by name."""
    left_out: list[str]

    def as_dict(self) -> dict[str, Any]:
        from huggingface_hub import constants

        return {
            "repo": self.repo,
            "url": f"{constants.ENDPOINT}/{self.repo}",
            "private": self.private,
            "files": self.files,
            "left_out": self.left_out,
        }


def push_model(source: str, repo: str, *, private: bool, dry_run: bool) -> dict[str, Any]:
    """Send a folder of `aigc model export`, or a run or checkpoint that is exported for it: a
    language model for transformers, any other as safetensors. Returns what was sent, and the commit
    unless it is a dry run.

    Raises:
        InputError: there is no such model, it names paths of this machine, REPO is no name of a
            repository, there is no token, or the hub refuses. MissingError: the hub cannot be
            reached. RunError: it failed.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"{repo!r} is no repository of the hub: {_first(error)}") from error
    if "/" not in repo:
        raise InputError(f"{repo!r} is no repository of the hub", hint="write it OWNER/NAME")
    with _exported(source) as folder:
        push = _look(folder, repo, private)
        if dry_run:
            return {**push.as_dict(), "commit": None}
        if not get_token():
            raise InputError(
                "the hub wants to know who sends this, and there is no token",
                hint="hf auth login keeps one, or set HF_TOKEN",
            )
        return {**push.as_dict(), "commit": _send(push)}


@contextmanager
def _exported(source: str) -> Iterator[Path]:
    """The folder of an export: the source itself, or one that is made of it for so long."""
    if (Path(source) / CARD).is_file() and any(_matching(Path(source), WEIGHTS)):
        yield Path(source)
        return
    path = find_checkpoint(source)
    model = recipe_from_dict(load_whole(path)["recipe"]).model
    with TemporaryDirectory(prefix="aigc-push-") as temporary:
        folder = Path(temporary) / "model"
        if isinstance(model, NetworkConfig):
            export_model(source, folder)
        else:
            give_model(source, folder, "safetensors", Asked())
        yield folder


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    files = (file for file in sorted(folder.iterdir()) if file.is_file())
    return [file for file in files if any(fnmatch(file.name, pattern) for pattern in patterns)]


def _look(folder: Path, repo: str, private: bool) -> Push:
    """
    Raises:
        InputError: a text in it names a path of this machine.
    """
    files = _matching(folder, SENT)
    for file in files:
        if file.name not in TEXTS:
            continue
        for place in PLACE.findall(file.read_text(encoding="utf-8", errors="replace")):
            if os.path.exists(os.path.expanduser(place.rstrip(".:"))):
                raise InputError(
                    f"{file}: names a path of this machine, which others need not know: {place}",
                    hint="export the model again, or take it out of the file",
                )
    left = sorted({entry.name for entry in folder.iterdir()} - {file.name for file in files})
    return Push(folder, repo, private, {f.name: f.stat().st_size for f in files}, left)


def _send(push: Push) -> str:
    """The commit.

    Raises:
        InputError, MissingError, RunError: as `push_model`.
    """
    import httpx2
    from huggingface_hub import CommitOperationAdd, HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    api = HfApi(library_name="aigc")
    files = [CommitOperationAdd(name, push.folder / name) for name in push.files]
    try:
        with warnings.catch_warnings(action="ignore"):  # advice of the hub about the card
            try:
                found = api.model_info(push.repo)
            except RepositoryNotFoundError:
                api.create_repo(push.repo, private=push.private)
            else:
                if push.private and not found.private:
                    raise InputError(
                        f"{push.repo} is there already and public",
                        hint="choose another name, or leave out --private",
                    )
            message = f"Model with {', '.join(_weights(push))}"
            return api.create_commit(push.repo, files, commit_message=message).oid
    except HfHubHTTPError as error:
        raise _refused(push.repo, error) from error
    except (httpx2.HTTPError, OSError) as error:
        raise MissingError(
            f"{constants.ENDPOINT} cannot be reached: {_first(error)}",
            hint="check the network; nothing is half sent, as all files are one commit",
        ) from error
    except (ValueError, RuntimeError) as error:
        raise RunError(f"{constants.ENDPOINT} did not take it: {_first(error)}") from error


def _weights(push: Push) -> list[str]:
    return [name for name in push.files if any(fnmatch(name, p) for p in WEIGHTS)]


def _refused(repo: str, error: Any) -> InputError | RunError:
    status = error.response.status_code
    said = error.server_message or _first(error)
    hints = {
        401: "the token is not valid: hf auth login, or another HF_TOKEN",
        403: f"the token may not write to {repo}: give it that right, or choose another owner",
        409: "somebody else changed it just now: try again",
    }
    if status < 500:
        return InputError(f"the hub refuses {repo} (HTTP {status}): {said}", hint=hints.get(status))
    return RunError(f"the hub failed (HTTP {status}): {said}", hint="try again later")


def _first(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:150]
