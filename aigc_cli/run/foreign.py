"""Language models of other programs: a folder of `transformers`, or a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.run.gguf import read_gguf
from aigc_cli.run.hugging_face import Folder, is_folder, read_folder
from aigc_cli.run.imported import write_imported
from aigc_cli.specs import Spec
from aigc_cli.specs.text import ChatSpec, TextSpec
from aigc_cli.text.jinja import recognize


def read_foreign(path: Path) -> Folder:
    """A folder of transformers or a GGUF file. Raises as `require_foreign`, `read_folder` and
    `read_gguf`.
    """
    require_foreign(path)
    return read_gguf(path) if path.is_file() else read_folder(path)


def require_foreign(path: Path) -> None:
    """
    Raises:
        InputError: it is neither a folder of transformers nor a GGUF file.
    """
    if not (is_folder(path) or (path.is_file() and path.suffix == ".gguf")):
        raise InputError(
            f"{path}: no folder of transformers, no GGUF file and no file of weights",
            hint="expected config.json with *.safetensors, a file *.gguf, or *.pth of a network "
            "of images",
        )


def spec_of(model: Folder) -> Spec:
    """Of conversations where the model's chat template is one of ours, otherwise of texts."""
    texts = model.tokenizer.to_json(), model.context
    known = model.chat_template and recognize(model.chat_template, model.tokenizer)
    return ChatSpec(*texts, known.name) if known else TextSpec(*texts)


def spec_family(spec: Spec) -> str:
    """The family that continues such texts."""
    return "chat" if isinstance(spec, ChatSpec) else "lm"


def write_foreign(model: Folder, out: Path) -> tuple[str, Spec]:
    """The model as a checkpoint of family chat or lm; the family and its spec. Raises as
    `write_language_model`.
    """
    spec = spec_of(model)
    return write_language_model(out, spec, model.fields, model.weights, model.path), spec


def write_language_model(
    out: Path, spec: Spec, fields: Mapping[str, Any], net: Mapping[str, Tensor], source: Path
) -> str:
    """A checkpoint of a network that needs no other file; its family, chat or lm.

    Raises:
        DiskFullError, OutputError: it cannot be written.
    """
    values = spec.as_dict()
    data = {"kind": spec.kind, "train": str(source), "context": values["context"]}
    if "template" in values:
        data["template"] = values["template"]
    family = spec_family(spec)
    weights = {f"net.{name}": value for name, value in net.items()}
    write_imported(out, {"family": family, "data": data, "model": dict(fields)}, spec, weights)
    return family
