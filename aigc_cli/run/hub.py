"""Files of a model of Hugging Face's hub, by the library of the hub. Without torch."""

from __future__ import annotations

import re
from pathlib import Path

from aigc_cli.errors import CheckpointError, InputError, MissingError

HUB = "hub:"
ID = re.compile(r"[\w.-]+/[\w.-]+")
FILES = [
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
]


def fetch_folder(text: str) -> tuple[Path, str]:
    """The files of `hub:OWNER/NAME[@REVISION]`, in the cache of huggingface_hub, and the commit
    they are of. HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE mean what they mean there.

    Raises:
        InputError: it is no id, or the hub has no such model or revision. MissingError: the hub
            cannot be reached. CheckpointError: what it sent is damaged.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = text.removeprefix(HUB).partition("@")
    if not ID.fullmatch(name):
        raise InputError(f"{text}: an id of the hub is written hub:OWNER/NAME or with @REVISION")
    place = f"{name} at {constants.ENDPOINT}"
    try:
        found = snapshot_download(name, revision=revision or None, allow_patterns=FILES)
    except (LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, HfHubHTTPError):
            what = f"no model {name}" + (f" of revision {revision}" if revision else "")
            status = error.response.status_code
            raise InputError(
                f"{constants.ENDPOINT} has {what} (HTTP {status})",
                hint="check the spelling; what needs an account needs HF_TOKEN",
            ) from error
        raise MissingError(
            f"{place} cannot be had: {str(error).splitlines()[0][:150]}",
            hint="without network, copy the folder of the model here and name that",
        ) from error
    except (HFValidationError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{place}: {str(error).splitlines()[0][:150]}") from error
    return Path(found), Path(found).name
