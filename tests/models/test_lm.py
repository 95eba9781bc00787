"""The language model: published sizes, exact means, and decoding with a cache beside without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models.text.lm import Config, Model, Options
from aigc_cli.sampling.decoding import TokenDecoder
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.text import IGNORE, TextSpec
from aigc_cli.text.tokenizer import Tokenizer

TEXT = "the cat sat on the mat, and the dog sat on the log. äöü 猫!\n"
CONTEXT = 16
ARCHS: list[Any] = [
    {"arch": "classic"},
    {"arch": "classic", "bias": True},
    {},
    {"qk_norm": True, "num_kv_heads": 1, "tied": False},
]


def model(config: dict[str, Any], *, context: int = CONTEXT, specials: bool = True) -> Model:
    names = {} if specials else {"specials": ()}
    tokenizer = Tokenizer.train([TEXT], kind="characters", **names)  # type: ignore[arg-type]
    torch.manual_seed(0)
    sizes = {"dim": 16, "num_layers": 2, "num_heads": 2, **config}
    return Model(Config(**sizes), TextSpec(tokenizer.to_json(), context)).eval()


def louder(net: Model) -> Model:
    """With weights large enough that texts depend on their prompts."""
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(8 if p.ndim > 1 else 1)
    return net


class Uncached(TokenDecoder):
    """Reads everything again at each step, one row at a time."""

    def __init__(self, lm: Model, rows: Sequence[Sequence[int]]) -> None:
        self.lm, self.rows = lm, [list(row) for row in rows]

    def step(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            context = self.lm.context
            for row, token in zip(self.rows, tokens.tolist(), strict=True):
                if len(row) == context:
                    del row[: context - context // 2]
                    row[0] = self.lm.tokenizer.bos_id or 0
                row.append(token)
        return torch.stack([self.lm.net(torch.tensor([row]))[0, -1] for row in self.rows])

    def select(self, rows: Tensor) -> None:
        self.rows = [list(self.rows[row]) for row in rows.tolist()]


@pytest.mark.parametrize("config", ARCHS)
@pytest.mark.parametrize("beams", [1, 3])
def test_texts_with_a_cache_are_those_without(config: dict[str, Any], beams: int) -> None:
    """Rows of several lengths, several answers each, and well beyond the context."""
    lm = louder(model(config))
    prompts = [lm.prompt_ids(text) for text in ("the cat", "", "dog sat on the ")]
    options = Options(max_tokens=3 * CONTEXT, min_tokens=CONTEXT, beams=beams)

    def texts(decoder: TokenDecoder) -> list[list[str]]:
        made = lm.answer(decoder, 3, options, SampleNoise(0, 0, 6), 2)
        return [[answer.text for answer in answers] for answers in made]

    cached = texts(lm.read_ids(prompts))
    assert cached == texts(Uncached(lm, prompts))
    assert len({text for row in cached for text in row}) > 3
    for number, prompt in enumerate(prompts):
        noise = SampleNoise(0, 2 * number, 2)
        alone = lm.answer(lm.read_ids([prompt]), 1, options, noise, 2)[0]
        assert [answer.text for answer in alone] == cached[number]


def test_nanogpts_networks_have_their_published_sizes() -> None:
    text = "".join(map(chr, range(65)))
    tokenizer = Tokenizer.train([text], kind="characters", specials=())
    assert tokenizer.vocab_size == 65
    sizes: list[tuple[dict[str, Any], int, int]] = [
        ({"num_layers": 6, "num_heads": 6, "dim": 384}, 256, 10_646_784),  # "10.65M"
        ({"num_layers": 4, "num_heads": 4, "dim": 128}, 64, 795_904),  # "0.80M"
    ]
    for size, context, expected in sizes:
        lm = Model(Config(arch="classic", **size), TextSpec(tokenizer.to_json(), context))
        counted = sum(p.numel() for p in lm.parameters())
        assert counted - context * size["dim"] == expected  # nanoGPT leaves positions out


@pytest.mark.parametrize("config", ARCHS)
def test_muon_has_the_matrices_of_the_blocks_and_no_others(config: dict[str, Any]) -> None:
    lm = model({**config, "optimizer": "muon"})
    names = {p: name for name, p in lm.named_parameters()}
    muon, *others = lm.configure_optimizers().param_groups
    hidden = {name for p, name in names.items() if p.ndim == 2}
    hidden -= {name for name in hidden if "embed" in name or "wte" in name or "wpe" in name}
    assert {names[p] for p in muon["params"]} == hidden - {"net.lm_head.weight"}
    assert sum(len(group["params"]) for group in (muon, *others)) == len(names)


def ragged(lm: Model) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(1)
    tokens = torch.randint(3, lm.tokenizer.vocab_size, (8, CONTEXT), generator=random)
    target = tokens.roll(-1, 1)
    for row, n in enumerate([16, 1, 9, 0, 3, 12, 0, 5]):
        target[row, n:] = IGNORE
    return {"tokens": tokens, "target": target}


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_parts_of_the_batch_add_up_to_its_mean_over_tokens(parts: int) -> None:
    """Rows with unequal numbers of supervised tokens, some with none."""
    lm = model({})
    batch = ragged(lm)
    tokens = lm.weight(batch)
    whole = lm.nats(batch).sum() / tokens
    expected = torch.autograd.grad(whole, list(lm.parameters()))
    lm.mean_weight = tokens.double() / parts
    lm.zero_grad()
    for n in range(parts):
        part = {k: v.chunk(parts)[n] for k, v in batch.items()}
        (lm.loss(part)["loss"] / parts).backward()
    for p, gradient in zip(lm.parameters(), expected, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, gradient, rtol=1e-5, atol=1e-7)


def test_validation_is_exact_whatever_the_batches() -> None:
    lm, text = model({}), TEXT[: CONTEXT + 1]
    batch = ragged(lm)
    ids = lm.tokenizer.encode(text)
    batch["tokens"][0] = torch.tensor(ids[:-1])
    batch["target"][0] = torch.tensor(ids[1:])
    with torch.no_grad():
        values = lm.evaluate_batch(batch)
        assert values["tokens"].tolist() == [16, 1, 9, 0, 3, 12, 0, 5]
        assert values["bytes"][0] == len(text[1:].encode())
        log_p = lm.net(batch["tokens"]).log_softmax(-1)
    target = batch["target"]
    picked = -log_p.gather(2, target.clamp(min=0)[..., None])[..., 0] * (target != IGNORE)
    torch.testing.assert_close(values["nats"], picked.double().sum(1), rtol=1e-5, atol=1e-5)
    means = {name: float(value.double().mean()) for name, value in values.items()}
    loss = lm.summarize(means)
    assert loss["loss"] == pytest.approx(float(picked.sum() / 46), rel=1e-5)
    assert loss["perplexity"] == pytest.approx(float((picked.sum() / 46).exp()), rel=1e-5)


@pytest.mark.parametrize("arch", ["llama", "classic"])
def test_only_matrices_decay(arch: Literal["llama", "classic"]) -> None:
    lm = model({"arch": arch, "bias": True})
    optimizer = lm.configure_optimizers()
    for group in optimizer.param_groups:
        assert {p.ndim for p in group["params"]} == ({2} if group["weight_decay"] else {1})


def test_a_prompt_longer_than_the_context_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"has 60 tokens, and the model reads at most 16"):
        model({}).read([TEXT])
    with pytest.raises(InputError, match=r"with 3 beams has no 4 answers"):
        model({}).write(["a"], Options(beams=3), SampleNoise(0, 0, 4), count=4)


def test_a_vocabulary_without_specials_writes_from_nothing() -> None:
    lm = model({"arch": "classic"}, specials=False)
    answer = lm.write([""], Options(max_tokens=20), SampleNoise(0, 0, 1))[0][0]
    assert len(answer.text) == 20
    assert not answer.finished


def test_texts_that_must_not_see_each_other_do_not() -> None:
    lm = model({})
    batch = ragged(lm)
    batch["document"] = torch.arange(CONTEXT).div(6, rounding_mode="floor").expand(8, -1)
    other = {**batch, "tokens": batch["tokens"].clone()}
    other["tokens"][:, :6] = 3
    with torch.no_grad():
        assert torch.equal(lm.nats(batch)[:, 6:], lm.nats(other)[:, 6:])
        assert not torch.equal(lm.nats(batch)[:, :6], lm.nats(other)[:, :6])


def test_the_tokenizer_is_that_of_the_spec() -> None:
    lm = model({})
    assert isinstance(lm.spec, TextSpec)
    assert lm.tokenizer.digest == Tokenizer.from_json(lm.spec.tokenizer).digest
    assert Model(Config(), replace(lm.spec, context=9)).context == 9
