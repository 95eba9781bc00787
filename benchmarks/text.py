"""Language models beside peers: seconds of decoding, and of a training step.

    TEXT=tinyshakespeare/train.txt python -m benchmarks.text
    MODEL=smollm2 BATCH=8 TOKENS=32 python -m benchmarks.text

Decoding: greedy, after a prompt of 16, by a Llama of 6 blocks and 256 features with random weights,
or by the model that `MODEL` names, in each precision, beside `generate` of transformers on the same
weights with its default cache; in float32 both must write the same tokens. `TOKENS` and `BATCH` say
how many. Training, where a text
is given: the steps of recipe lm_shakespeare_classic beside a plain PyTorch loop of the same
network, batches and optimizer.

Sides are interleaved and ratios are those of medians, above 1 when aigc is faster.
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_cli.models.text._causal import CausalDecoder, CausalModule
from aigc_cli.models.text._network import sizes
from aigc_cli.models.text.lm import Config, Model, Options
from aigc_cli.nn.cached_lm import CachedLM
from aigc_cli.nn.linear import Precision
from aigc_cli.recipe.load import load_recipe
from aigc_cli.run.build import build
from aigc_cli.run.trained import load_trained
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.text import TextSpec
from aigc_cli.text.tokenizer import Tokenizer
from benchmarks._sides import ALIKE, Skip, batches, seconds_between, with_aigc

PROMPT, CONTEXT, ROUNDS, STEPS = 16, 512, 5, 30
SIZES: dict[str, Any] = {"dim": 256, "num_layers": 6, "num_heads": 4, "hidden_dim": 704}
RECIPE = "lm_shakespeare_classic"


def language_model() -> CausalModule:
    if name := os.environ.get("MODEL"):
        model = load_trained(name).model
        assert isinstance(model, CausalModule)
        return model
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 4000)))
    tokenizer = Tokenizer.train([letters], kind="characters")
    torch.manual_seed(0)
    return Model(Config(**SIZES), TextSpec(tokenizer.to_json(), CONTEXT)).eval()


def prompts(lm: CausalModule, rows: int) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(3, lm.tokenizer.vocab_size, (rows, PROMPT), generator=random)


def of_transformers(lm: CausalModule) -> Any:
    """The same weights in LlamaForCausalLM."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError as error:
        raise Skip("transformers is not installed") from error
    c = sizes(lm.config)
    config = LlamaConfig(
        vocab_size=lm.tokenizer.vocab_size, hidden_size=c["dim"],
        intermediate_size=c["hidden_dim"], num_hidden_layers=c["num_layers"],
        num_attention_heads=c["num_heads"], num_key_value_heads=c["num_kv_heads"],
        max_position_embeddings=lm.context, rms_norm_eps=c["eps"],
        rope_parameters={"rope_type": "default", "rope_theta": c["rope_theta"]},
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    theirs = LlamaForCausalLM(config).eval()
    theirs.load_state_dict(lm.net.state_dict(), strict=False)
    theirs.tie_weights()
    return theirs


def decoding(rows: int, tokens: int) -> dict[str, Any]:
    """Greedy texts of `rows` prompts at once in each precision of both sides."""
    lm = language_model()
    theirs = of_transformers(lm)
    x, half = prompts(lm, rows), copy.deepcopy(theirs).bfloat16()
    options = Options(temperature=0, max_tokens=tokens, min_tokens=tokens)

    def ours(dtype: Precision) -> Callable[[], list[list[int]]]:
        network = CachedLM(lm.net, dtype)

        def write() -> list[list[int]]:
            decoder = CausalDecoder(network, x.tolist(), lm.tokenizer.bos_id)
            answers = lm.answer(decoder, rows, options, SampleNoise(0, 0, rows))
            return [list(several[0].ids) for several in answers]

        return write

    def generate(model: Any) -> Callable[[], list[list[int]]]:
        never = [[token] for token in (*lm.banned_ids, *lm.stop_ids)]

        def write() -> list[list[int]]:
            made = model.generate(
                x, attention_mask=torch.ones_like(x), do_sample=False, max_new_tokens=tokens,
                bad_words_ids=never,
            )  # fmt: skip
            return made[:, PROMPT:].tolist()

        return write

    sides = {
        "transformers_float32": generate(theirs), "transformers_bfloat16": generate(half),
        "float32": ours("float32"), "bfloat16": ours("bfloat16"), "int8": ours("int8"),
    }  # fmt: skip
    # Of one thread its own time, which what else runs here does not lengthen.
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    texts = {}
    for number in range(ROUNDS + 1):
        for name, write in sides.items():
            begun = clock()
            texts[name] = write()
            if number:  # the first round warms up
                seconds[name].append(clock() - begun)
    assert texts["float32"] == texts["transformers_float32"]
    median = {name: statistics.median(values) for name, values in seconds.items()}
    best = min(median["transformers_float32"], median["transformers_bfloat16"])
    exact = [token for text in texts["float32"] for token in text]
    found: dict[str, Any] = {
        "model": os.environ.get("MODEL", "6 x 256"), "batch": rows, "tokens": tokens,
        "rounds": ROUNDS,
    }  # fmt: skip
    for name in sides:
        made = [token for text in texts[name] for token in text]
        found[name] = {
            "tokens_per_s": round(rows * tokens / median[name], 1),
            "over_best_transformers": round(best / median[name], 2),
            "range": [round(best / max(seconds[name]), 2), round(best / min(seconds[name]), 2)],
            "equal_tokens": round(sum(map(int.__eq__, made, exact)) / len(exact), 3),
        }
    return found


def plain_loop(extra: list[str]) -> Iterator[None]:
    """What one writes by hand: the loss of nanoGPT, clipping, AdamW as it is by default."""
    _, model = build(load_recipe(RECIPE, [*ALIKE, *extra]))
    assert isinstance(model, Model)
    net = model.net
    groups = [
        {"params": [p for p in net.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in net.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, 1e-3, (0.9, 0.99))
    for batch in batches(RECIPE, extra, STEPS):
        logits = net(batch["tokens"])
        loss = F.cross_entropy(logits.flatten(0, 1), batch["target"].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        loss.item()
        yield


def training(text: Path) -> dict[str, Any]:
    extra = [f"data.train={text.resolve()}"]
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        ours += with_aigc(RECIPE, extra, STEPS)
        theirs += seconds_between(plain_loop(extra))
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {
        "step_s": round(mine, 4),
        "plain_loop_s": round(other, 4),
        "ratio": round(other / mine, 3),
        "steps": len(ours),
    }


def main() -> dict[str, Any]:
    rows, tokens = int(os.environ.get("BATCH", "1")), int(os.environ.get("TOKENS", "256"))
    found = {
        "benchmark": "language model",
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "decoding": decoding(rows, tokens),
    }
    text = os.environ.get("TEXT")
    return {**found, "training": training(Path(text))} if text else found


if __name__ == "__main__":
    print(json.dumps(main()))
