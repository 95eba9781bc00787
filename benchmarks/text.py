"""Language models beside peers: seconds of decoding, and of a training step.

    TEXT=tinyshakespeare/train.txt python -m benchmarks.text

Decoding: 256 tokens, greedy, after a prompt of 16, by a Llama of 6 blocks and 256 features with
random weights in fp32. It is compared with the same network reading everything again at each step,
as nanoGPT samples (the head at the last token alone), and with `generate` of transformers on the
same weights with its default cache; all three must write the same tokens. Training, where a text is
given: the steps of recipe lm_shakespeare_classic beside a plain PyTorch loop of the same network,
batches and optimizer.

Sides are interleaved and ratios are those of medians, above 1 when aigc is faster.
"""

from __future__ import annotations

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

from aigc_cli.models.text.lm import Config, Model, Options
from aigc_cli.recipe.load import load_recipe
from aigc_cli.run.build import build
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.text import TextSpec
from aigc_cli.text.tokenizer import Tokenizer
from benchmarks._sides import ALIKE, Skip, batches, seconds_between, with_aigc

TOKENS, PROMPT, CONTEXT, ROUNDS, STEPS = 256, 16, 512, 5, 30
SIZES: dict[str, Any] = {"dim": 256, "num_layers": 6, "num_heads": 4, "hidden_dim": 704}
RECIPE = "lm_shakespeare_classic"


def language_model() -> Model:
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 4000)))
    tokenizer = Tokenizer.train([letters], kind="characters")
    torch.manual_seed(0)
    return Model(Config(**SIZES), TextSpec(tokenizer.to_json(), CONTEXT)).eval()


def prompts(lm: Model, rows: int) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(3, lm.tokenizer.vocab_size, (rows, PROMPT), generator=random)


def cached(lm: Model, rows: int = 1, beams: int = 1) -> list[int]:
    options = Options(
        temperature=0, max_tokens=TOKENS, min_tokens=TOKENS, beams=beams, length_penalty=0
    )
    decoder = lm.read_ids(prompts(lm, rows).tolist())
    answers = lm.answer(decoder, rows, options, SampleNoise(0, 0, rows))
    return list(answers[0][0].ids)


@torch.no_grad()
def uncached(lm: Model) -> list[int]:
    tokens = prompts(lm, 1)
    never = torch.tensor([*lm.banned_ids, *lm.stop_ids])
    for _ in range(TOKENS):
        last = lm.net.hidden(tokens, slice(tokens.shape[1]), None, True)[:, -1]
        logits = F.linear(last, lm.net.head_weight).index_fill(1, never, -torch.inf)
        tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], 1)
    return tokens[0, PROMPT:].tolist()


def of_transformers(lm: Model) -> Callable[[], list[int]]:
    """The same weights in LlamaForCausalLM."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError as error:
        raise Skip("transformers is not installed") from error
    config = LlamaConfig(
        vocab_size=lm.tokenizer.vocab_size, hidden_size=SIZES["dim"],
        intermediate_size=SIZES["hidden_dim"], num_hidden_layers=SIZES["num_layers"],
        num_attention_heads=SIZES["num_heads"], max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None,
        pad_token_id=None,
    )  # fmt: skip
    theirs = LlamaForCausalLM(config).eval()
    theirs.load_state_dict(lm.net.state_dict(), strict=False)
    theirs.tie_weights()
    never = [[token] for token in (*lm.banned_ids, *lm.stop_ids)]
    x = prompts(lm, 1)

    def write() -> list[int]:
        made = theirs.generate(
            x, attention_mask=torch.ones_like(x), do_sample=False, max_new_tokens=TOKENS,
            bad_words_ids=never,
        )  # fmt: skip
        return made[0, PROMPT:].tolist()

    return write


def decoding() -> dict[str, Any]:
    lm = language_model()
    sides: dict[str, Callable[[], list[int]]] = {
        "cached": lambda: cached(lm),
        "uncached": lambda: uncached(lm),
        "transformers": of_transformers(lm),
        "batch_16": lambda: cached(lm, 16),
        "beam_5": lambda: cached(lm, beams=5),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(ROUNDS + 1):
        texts = {}
        for name, write in sides.items():
            begun = time.perf_counter()
            texts[name] = write()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - begun)
        assert texts["cached"] == texts["uncached"] == texts["transformers"] == texts["batch_16"]
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "tokens": TOKENS,
        "tokens_per_s": round(TOKENS / median["cached"], 1),
        "over_uncached": round(median["uncached"] / median["cached"], 2),
        "over_transformers": round(median["transformers"] / median["cached"], 2),
        "batch_16_tokens_per_s": round(16 * TOKENS / median["batch_16"], 1),
        "batch_16_over_batch_1": round(16 * median["cached"] / median["batch_16"], 2),
        "beam_5_tokens_per_s": round(TOKENS / median["beam_5"], 1),
        "rounds": ROUNDS,
    }


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
    found = {"benchmark": "language model, fp32", "decoding": decoding()}
    text = os.environ.get("TEXT")
    return {**found, "training": training(Path(text))} if text else found


if __name__ == "__main__":
    print(json.dumps(main()))
