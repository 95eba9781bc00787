"""`aigc model`: models go to other programs, and come from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aigc_cli.errors import InputError, OutputError
from aigc_cli.models.text._network import NetworkConfig, sizes
from aigc_cli.models.text._tuned import TunedConfig
from aigc_cli.nn.lora import merge_adapters
from aigc_cli.recipe.load import recipe_from_dict
from aigc_cli.run.base import load_whole
from aigc_cli.run.card import model_card
from aigc_cli.run.foreign import (
    read_foreign,
    require_foreign,
    write_foreign,
    write_language_model,
)
from aigc_cli.run.hub import HUB, fetch_folder
from aigc_cli.run.hugging_face import write_adapter, write_folder
from aigc_cli.run.paths import find_checkpoint
from aigc_cli.run.published import import_published, is_published
from aigc_cli.specs.text import ChatSpec, TextSpec
from aigc_cli.text.template import TEMPLATES
from aigc_cli.text.tokenizer import Tokenizer


def export_model(
    source: str, out: Path, *, format: str = "hf", ema: bool = True, adapter: bool = False
) -> dict[str, Any]:
    """Write a run with adapters merged into the weights: as a folder of transformers (hf), or as a
    checkpoint of family lm or chat that needs no other file (aigc); with `adapter` the adapters
    alone, as PEFT loads them.

    Raises:
        InputError: no such run, or its family is none that transformers has. OutputError: the
            folder holds something, or cannot be written.
    """
    path = find_checkpoint(source)
    state = load_whole(path)
    family = state["recipe"]["family"]
    config = recipe_from_dict(state["recipe"]).model
    if not isinstance(config, NetworkConfig):
        raise InputError(
            f"{path}: family {family} has no counterpart in transformers",
            hint="families that have: lm, chat, dpo, grpo",
        )
    spec = state["spec"]
    tokenizer = Tokenizer.from_json(spec["tokenizer"])
    weights = {**state["weights"], **((state["ema"] or {}) if ema else {})}
    own = {k[4:]: v for k, v in weights.items() if k.startswith("net.")}
    adapters = sum(name.endswith(".lora_a") for name in own)
    report = {"checkpoint": str(path), "family": family, "folder": str(out)}
    if adapter:
        if not isinstance(config, TunedConfig):
            raise InputError(f"--adapter: family {family} has no adapters")
        files = write_adapter(out, config, own, state["recipe"].get("init_from"))
        return {**report, "adapters": adapters, "merged": False, "files": [f.name for f in files]}
    net = merge_adapters(own)
    report |= {
        "parameters": sum(v.numel() for v in net.values()),
        "adapters": adapters,
        "merged": bool(adapters),
    }
    if format == "aigc":
        _require_new_checkpoint(out)
        texts = spec["tokenizer"], spec["context"]
        plain = ChatSpec(*texts, spec["template"]) if "template" in spec else TextSpec(*texts)
        out.parent.mkdir(parents=True, exist_ok=True)
        written = write_language_model(out, plain, sizes(config), net, path)
        return {**report, "family": written, "files": [out.name]}
    stops = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    template = None
    if "template" in spec:
        chosen = TEMPLATES[spec["template"]]
        template = chosen.for_others(tokenizer)
        stops = list(dict.fromkeys([chosen.end_id(tokenizer), *stops]))
    files = write_folder(
        out, config, net, tokenizer, spec["context"], stops=stops, template=template
    )
    card = out / "README.md"
    card.write_text(model_card(source), encoding="utf-8")
    return {**report, "files": [file.name for file in (*files, card)]}


def _require_new_checkpoint(out: Path) -> None:
    """
    Raises:
        OutputError: `out` is there, or is not named .ckpt.
    """
    if out.suffix != ".ckpt" or out.exists():
        why = "already exists" if out.exists() else "a checkpoint's name ends in .ckpt"
        raise OutputError(f"{out}: {why}", hint="choose another --out")


def import_model(source: str, out: Path, family: str | None = None) -> dict[str, Any]:
    """Write a model of another program as a checkpoint. source: a folder of transformers, a GGUF
    file or hub:OWNER/NAME, which become of family chat where the chat template is one of ours and
    lm otherwise; or weights of a network of images (`import_published`), of `family` if given.

    Raises:
        InputError: it is none of these, or not one that can be read. CheckpointError: weights of
            no network that is known. MissingError: the hub cannot be reached. OutputError: `out` is
            there, is not named .ckpt, or cannot be written.
    """
    published = not source.startswith(HUB) and is_published(Path(source))
    if not (published or source.startswith(HUB)):
        require_foreign(Path(source))
    if family is not None and not published:
        raise InputError("--family is for files of weights of images' networks")
    _require_new_checkpoint(out)
    if published:
        out.parent.mkdir(parents=True, exist_ok=True)
        return import_published(Path(source), out, family)
    path, revision = fetch_folder(source) if source.startswith(HUB) else (Path(source), None)
    found = read_foreign(path)
    out.parent.mkdir(parents=True, exist_ok=True)
    family, spec = write_foreign(found, out)
    return {
        "checkpoint": str(out),
        "family": family,
        "parameters": sum(value.numel() for value in found.weights.values()),
        "template": getattr(spec, "template", None),
        "unknown_template": found.chat_template is not None and family == "lm",
        "revision": revision,
    }
