"""Checkpoints of adapters: small, bound to their base by digest, and the same weights as before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from aigc_cli.recipe.load import load_recipe
from aigc_cli.run.base import load_whole
from aigc_cli.run.checkpoint import save_checkpoint
from aigc_cli.run.plan import plan
from aigc_cli.run.trained import load_trained
from aigc_cli.run.weights import complete
from tests.run.conftest import Ending, assert_same, load, trained

Aigc = Callable[..., Ending]
LORA = ("model.lora.rank=2", "model.lr=0.05")


@pytest.fixture
def adapted(aigc: Aigc, chain: Path) -> Path:
    """The folder in which `chat` holds adapters of `lm`."""
    trained(aigc, "lm", "chat", overrides=LORA)
    return chain


def another(path: Path) -> None:
    """Change a weight."""
    state = load(path)
    state["weights"]["net.model.norm.weight"] += 1
    save_checkpoint(state, path)


def test_a_checkpoint_of_adapters_holds_nothing_else(adapted: Path) -> None:
    base = load(adapted / "lm/checkpoints/best.ckpt")["weights"]
    state = load(adapted / "chat/checkpoints/last.ckpt")
    assert {name.rsplit(".", 1)[1] for name in state["weights"]} == {
        "lora_a", "lora_b", "lora_scale",
    }  # fmt: skip
    whole = load_whole(adapted / "chat/checkpoints/last.ckpt")["weights"]
    assert whole.keys() == base.keys() | state["weights"].keys()
    assert all(torch.equal(whole[name], value) for name, value in base.items())


def test_what_starts_from_adapters_finds_all_bases(aigc: Aigc, adapted: Path) -> None:
    """dpo on chat, whose adapters are merged, and chat on lm: a chain."""
    trained(aigc, "dpo", overrides=LORA)
    whole = load_whole(adapted / "dpo/checkpoints/last.ckpt")["weights"]
    chat = load_trained("chat").model
    layer = chat.get_submodule("net.model.layers.0.self_attn.q_proj")
    merged = layer.merged()  # type: ignore[operator]
    assert torch.equal(whole["net.model.layers.0.self_attn.q_proj.weight"], merged)
    assert aigc("sample", "dpo", "--prompt", "what is 1", "--output", "out.jsonl").code == 0


def test_a_base_is_found_where_it_is_now(
    aigc: Aigc, adapted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = adapted / "chat/checkpoints/best.ckpt"
    before = load_trained("chat").weights
    moved = adapted / "elsewhere"  # the working folder with all that is in it
    moved.mkdir()
    for name in ("lm", "chat"):
        shutil.move(name, moved)
    monkeypatch.chdir(moved)
    assert load_trained("chat").weights == before
    models = adapted / "models"
    models.mkdir()
    shutil.move("lm/checkpoints/best.ckpt", models)
    shutil.rmtree("lm")
    monkeypatch.setenv("AIGC_MODELS", str(models))
    assert load_trained("chat").weights == before
    assert not path.exists()


@pytest.mark.parametrize("words", [
    ("sample", "chat", "--prompt", "what is 1"), ("evaluate", "chat"),
    ("train", "--resume", "chat", "trainer.max_steps=3"),
    ("model", "export", "chat", "--out", "x"), ("train", "dpo.yaml", "--out", "x"),
])  # fmt: skip
def test_a_base_that_is_missing_or_another_is_said(
    aigc: Aigc, adapted: Path, words: tuple[str, ...]
) -> None:
    digest = load(adapted / "chat/checkpoints/last.ckpt")["base"]["digest"][:12]
    before = {p: p.read_bytes() for p in (adapted / "chat/checkpoints").iterdir()}
    base = adapted / "lm/checkpoints/best.ckpt"
    another(base)
    ending = aigc(*words)
    assert ending.code == 2, ending.err
    (line,) = (line for line in ending.err.splitlines() if line.startswith("error: "))
    assert f"holds adapters of lm as it was, digest {digest}, and {base} has changed" in line
    shutil.rmtree(adapted / "lm")
    ending = aigc(*words)
    if "--resume" in words:  # its data needs the tokenizer first
        assert (ending.code, "data.tokenizer.from: 'lm' is no run" in ending.err) == (2, True)
    else:
        assert ending.code == 5, ending.err
        assert f"holds adapters of lm, digest {digest}, which is not here\n" in ending.err
        assert f"hint: bring it to {base}, or into " in ending.err
    assert not (adapted / "x").exists()
    assert before == {p: p.read_bytes() for p in (adapted / "chat/checkpoints").iterdir()}


def test_a_whole_checkpoint_of_adapters_still_serves(aigc: Aigc, adapted: Path) -> None:
    """As they were written before bases were named."""
    path = adapted / "chat/checkpoints/last.ckpt"
    words = ("train", "--resume", "chat", "trainer.max_steps=4", "--quiet")
    shutil.copytree("chat", "old/chat")
    assert aigc(*words).code == 0
    new = load_whole(path)
    shutil.rmtree("chat")
    shutil.copytree("old/chat", "chat")
    state = {key: value for key, value in load_whole(path).items() if key != "base"}
    for file in (path, path.with_name("best.ckpt")):
        save_checkpoint(state, file)
    another(adapted / "lm/checkpoints/best.ckpt")
    assert aigc("sample", "chat", "--prompt", "what is 1", "--output", "out.jsonl").code == 0
    assert aigc(*words).code == 0
    old = load(path)
    for part in ("weights", "optimizers"):
        assert_same(new[part], old[part], part)


def test_averages_leave_the_same_to_the_base(aigc: Aigc, chain: Path) -> None:
    ema = (*LORA, "trainer.ema=0.5")
    trained(aigc, "lm", "chat", overrides=ema)
    path = chain / "chat/checkpoints/last.ckpt"
    assert all(".lora_" in name for name in load(path)["ema"])
    ending = aigc("train", "--resume", "chat", "trainer.max_steps=4", "--quiet")
    assert ending.code == 0, ending.err
    trained(aigc, "chat", overrides=(*ema, "trainer.max_steps=4", "--overwrite", "--out=whole"))
    whole, resumed = load(chain / "whole/checkpoints/last.ckpt"), load(path)
    for part in ("weights", "ema", "optimizers"):
        assert_same(whole[part], resumed[part], part)


def test_without_init_from_everything_is_held(aigc: Aigc, chain: Path) -> None:
    """There is nothing that the other weights could be left to."""
    trained(aigc, "lm")
    words = ("init_from=null", "data.tokenizer.from=lm", "model.dim=16", "model.num_heads=2")
    trained(aigc, "chat", overrides=(*LORA, *words, "model.num_layers=2"))
    shutil.rmtree("lm")
    assert "net.model.norm.weight" in load(chain / "chat/checkpoints/last.ckpt")["weights"]
    load_trained("chat")


def test_adapters_become_one_file(aigc: Aigc, adapted: Path) -> None:
    trained(aigc, "dpo", overrides=LORA)
    ending = aigc("model", "export", "dpo", "--format", "aigc", "--out", "whole.ckpt", "--json")
    assert ending.code == 0, ending.err
    assert (ending.json["family"], ending.json["merged"]) == ("chat", True)
    x = torch.arange(12)[None]
    with torch.no_grad():
        expected = load_trained("dpo").model.net(x)  # type: ignore[operator]
        for name in ("lm", "chat", "dpo"):
            shutil.rmtree(name)
        found = load_trained("whole.ckpt").model.net(x)  # type: ignore[operator]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    again = aigc("model", "export", "whole.ckpt", "--format", "aigc", "--out", "whole.ckpt")
    assert (again.code, "whole.ckpt: already exists" in again.err) == (2, True)


@pytest.mark.parametrize("overrides", [
    (), LORA, (*LORA, "trainer.ema=0.9"), (*LORA, "model.lora.embeddings=true"),
])  # fmt: skip
def test_a_plan_knows_the_size_of_a_checkpoint(
    aigc: Aigc,
    chain: Path,
    overrides: tuple[str, ...],
) -> None:
    trained(aigc, "lm", "chat")
    trained(aigc, "dpo", overrides=overrides)
    planned = plan(complete(load_recipe("dpo.yaml", overrides)))["checkpoint_bytes"]
    state = load(chain / "dpo/checkpoints/last.ckpt")
    held = [*state["weights"].values(), *(state["ema"] or {}).values()]
    for optimizer in state["optimizers"]:
        held += [v for values in optimizer["state"].values() for v in values.values()]
    steps = sum(len(optimizer["state"]) for optimizer in state["optimizers"])  # Adam's counters
    assert planned == sum(tensor.nbytes for tensor in held) - 4 * steps
