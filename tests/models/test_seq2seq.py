"""Encoder-decoders: published sizes, cached decoding, ragged batches, token-normalized loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models._base import Run, _Noise
from aigc_cli.models.text._pairs import padded
from aigc_cli.models.text.seq2seq import Config, Model
from aigc_cli.recipe.sections import Trainer
from aigc_cli.sampling.decoding import TokenDecoder
from aigc_cli.specs.text import TextPairSpec
from aigc_cli.text.tokenizer import Tokenizer

GERMAN = ["ein hund rennt", "zwei rote katzen schlafen heute", "ein mann"]
ENGLISH = ["a dog runs", "two red cats are sleeping today", "a man"]

RNN = [
    {"cell": cell, "attention": attention, "num_layers": layers, "bidirectional": both}
    for cell, layers, both in (("gru", 1, True), ("lstm", 2, False))
    for attention in ("none", "context", "additive", "multiplicative")
]
VARIANTS: list[dict[str, Any]] = [
    *RNN,
    {"coverage": True},
    {"coverage": True, "attention": "multiplicative"},
    {"share": "output"},
    {"arch": "transformer", "num_layers": 2},
    {"arch": "transformer", "norm": "pre", "positions": "sinusoidal", "share": "output"},
]


def words(texts: list[str]) -> str:
    return Tokenizer.train(texts, kind="words").to_json()


def model(**config: Any) -> Model:
    """Small, with weights large enough for texts to differ."""
    torch.manual_seed(0)
    spec = TextPairSpec(words(GERMAN), words(ENGLISH), max_source=9, max_target=9)
    settings = {"dim": 8, "hidden_dim": 12, "num_heads": 2, "dropout": 0.0, **config}
    made = Model(Config(**settings), spec).eval()
    for name, weight in made.network.named_parameters():
        if "norm" not in name:
            weight.data.mul_(2.0)
    made.run = Run(Trainer(max_steps=1, global_batch=3), seed=0, max_steps=1)
    return made


def batch(built: Model) -> dict[str, Tensor]:
    rows = built.tokenizer.encode_batch(ENGLISH)
    target = padded([[built.bos, *row, built.eos] for row in rows], built.pad)
    return {"source": built.source_ids(GERMAN), "target": target}


def terms(built: Model, seed: int = 0) -> dict[str, Tensor]:
    assert built.run is not None
    built._noise = _Noise(seed, built.run, torch.device("cpu"))
    return built.loss(batch(built))


def greedy(decoder: TokenDecoder, steps: int = 7) -> Tensor:
    """(R, steps), whether a text has ended or not."""
    tokens: list[Tensor] = []
    for _ in range(steps):
        tokens.append(decoder.step(tokens[-1] if tokens else None).argmax(-1))
    return torch.stack(tokens, 1)


@pytest.fixture(params=VARIANTS, ids=lambda c: "-".join(map(str, c.values())))
def built(request: pytest.FixtureRequest) -> Model:
    return model(**request.param)


@torch.no_grad()
def test_cached_decoding_is_the_uncached(built: Model) -> None:
    source = built.source_ids(GERMAN)
    written = torch.full((3, 1), built.bos)
    for _ in range(7):
        features, _ = built.network.decode(written, built.network.encode(source))
        written = torch.cat([written, built.network.head(features[:, -1]).argmax(-1)[:, None]], 1)
    assert torch.equal(greedy(built.read(GERMAN)), written[:, 1:])
    first = built.read(GERMAN).step(None)
    assert not torch.allclose(first[0], first[1], atol=1e-3)  # the source matters


@torch.no_grad()
def test_a_ragged_batch_is_its_single_sentences(built: Model) -> None:
    together = built.read(GERMAN)
    alone = [built.read([text]) for text in GERMAN]
    tokens = None
    for _ in range(4):
        logits = together.step(tokens)
        for row, decoder in enumerate(alone):
            single = decoder.step(None if tokens is None else tokens[row : row + 1])
            torch.testing.assert_close(logits[row : row + 1], single, rtol=1e-4, atol=1e-5)
        tokens = logits.argmax(-1)


@torch.no_grad()
def test_log_probs_are_those_of_the_decoder_step_by_step(built: Model) -> None:
    source, target = batch(built).values()
    log_probs = built.log_probs(source, target)
    decoder, expected = built.read(GERMAN), []
    for t in range(target.shape[1] - 1):
        logits = decoder.step(target[:, t] if t else None)
        expected.append(logits.log_softmax(-1).gather(1, target[:, t + 1 : t + 2])[:, 0])
    kept = target[:, 1:] != built.pad
    torch.testing.assert_close(log_probs, torch.stack(expected, 1) * kept)
    assert log_probs[~kept].eq(0).all()


@torch.no_grad()
def test_beams_go_on_with_their_own_state(built: Model) -> None:
    decoder, rows = built.read(GERMAN), torch.tensor([2, 0, 0])
    first = decoder.step(None).argmax(-1)
    decoder.select(rows)
    moved = decoder.step(first[rows])
    other = built.read([GERMAN[row] for row in rows])
    other.step(None)
    torch.testing.assert_close(moved, other.step(first[rows]))
    if built.config.arch == "transformer" or built.config.attention in (
        "additive",
        "multiplicative",
    ):
        assert decoder.attention is not None
        torch.testing.assert_close(decoder.attention.sum(1), torch.ones(3))
        longest = decoder.attention.shape[1]
        outside = torch.arange(longest) >= torch.tensor([3, 4, 4])[:, None]
        assert decoder.attention[outside].eq(0).all()
    else:
        assert decoder.attention is None


def test_the_loss_is_the_mean_over_tokens(built: Model) -> None:
    tokens = built.weight(batch(built))
    assert tokens == 4 + 7 + 3
    built.mean_weight = tokens.float()
    values = built.evaluate_batch(batch(built))
    torch.testing.assert_close(terms(built)["loss"], (values["nats"].sum() / tokens).float())
    assert values["tokens"].tolist() == [4, 7, 3]
    # A word counts the space before it.
    assert values["bytes"].tolist() == [len(f" {text}") for text in ENGLISH]


def test_label_smoothing_is_that_of_torch() -> None:
    smoothed = model(label_smoothing=0.1)
    source, target = batch(smoothed).values()
    smoothed.mean_weight = smoothed.weight(batch(smoothed))
    features, _ = smoothed.network.decode(target[:, :-1], smoothed.network.encode(source))
    logits = smoothed.network.head(features).flatten(0, 1)
    wanted = F.cross_entropy(
        logits, target[:, 1:].flatten(), ignore_index=smoothed.pad, label_smoothing=0.1
    )
    made = terms(smoothed)
    torch.testing.assert_close(made["loss"], wanted)
    assert made["nll"] != made["loss"]


def test_without_supervised_tokens_nothing_is_learned(built: Model) -> None:
    empty = batch(built)
    empty["target"] = (
        empty["target"][:, :1].repeat(1, 4).index_fill(1, torch.arange(1, 4), built.pad)
    )
    built.mean_weight = torch.ones(())
    loss = built.loss(empty)["loss"]
    assert loss == 0
    loss.backward()
    gradients = [p.grad for p in built.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients)


@torch.no_grad()
def test_without_teacher_forcing_the_model_is_fed_its_own_tokens() -> None:
    free = model(teacher_forcing=0.0)
    source, target = batch(free).values()
    tokens = greedy(free.read(GERMAN), target.shape[1] - 1)
    fed = torch.cat([target[:, :1], tokens[:, :-1]], 1)
    features, _ = free.network.decode(fed, free.network.encode(source))
    kept = target[:, 1:] != free.pad
    logits = free.network.head(features)[kept]
    free.mean_weight = kept.sum()
    torch.testing.assert_close(terms(free)["loss"], F.cross_entropy(logits, target[:, 1:][kept]))
    half = model(teacher_forcing=0.5)
    half.mean_weight = kept.sum()
    assert terms(half, seed=0)["loss"] != terms(half, seed=1)["loss"]
    assert terms(half, seed=0)["loss"] == terms(half, seed=0)["loss"]


def test_words_that_are_unknown_are_read() -> None:
    built = model()
    ids = built.source_ids(["ein zebra rennt"])
    assert built.source_tokenizer.unk_id in ids
    assert greedy(built.read(["ein zebra rennt"])).shape == (1, 7)


def test_a_text_that_is_too_long_is_named() -> None:
    with pytest.raises(InputError, match="a text of 12 tokens is longer than the model reads, 8"):
        model().read(["ein hund " * 6])


def test_it_learns_to_reverse() -> None:
    """Attention and order: what no bag of words can do."""
    texts = ["a b c", "c a b", "b b a", "c c b", "a c a", "b a c"]
    reverse = [text[::-1] for text in texts]
    spec = TextPairSpec(words(texts), words(texts), max_source=8, max_target=8)
    torch.manual_seed(0)
    built = Model(Config(dim=16, hidden_dim=32, dropout=0.0), spec)
    optimizer = torch.optim.Adam(built.parameters(), 1e-2)
    rows = built.tokenizer.encode_batch(reverse)
    target = padded([[built.bos, *row, built.eos] for row in rows], built.pad)
    source = built.source_ids(texts)
    for _ in range(60):
        optimizer.zero_grad()
        built.loss({"source": source, "target": target})["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        assert torch.equal(greedy(built.eval().read(texts), 4), target[:, 1:])


@pytest.mark.parametrize(
    ("parameters", "config"),
    [
        (
            13_898_501,
            {"cell": "lstm", "num_layers": 2, "attention": "none", "bidirectional": False},
        ),
        (14_219_781, {"attention": "context", "bidirectional": False}),
        (20_518_405, {"attention": "additive"}),
        (9_038_341, {"arch": "transformer", "num_layers": 3, "num_heads": 8}),
    ],
)
def test_published_sizes(parameters: int, config: dict[str, Any]) -> None:
    """Of pytorch-seq2seq's notebooks on Multi30k, with 7853 German and 5893 English words."""
    german, english = ([f"w{n}" for n in range(size - 4)] for size in (7853, 5893))
    spec = TextPairSpec(words(german), words(english), max_source=100, max_target=100)
    built = Model(Config(**config), spec)
    assert sum(p.numel() for p in built.parameters()) == parameters


@pytest.mark.parametrize("arch", ["rnn", "transformer"])
def test_a_shared_matrix_is_one(arch: str) -> None:
    spec = TextPairSpec(words(ENGLISH), words(ENGLISH), max_source=9, max_target=9)
    sizes = {"arch": arch, "dim": 8, "hidden_dim": 12, "num_heads": 2}
    for share, matrices in (("none", 3), ("output", 2), ("all", 1)):
        network = Model(Config(**sizes, share=share), spec).network
        held = {network.source.weight, network.target.weight, network.output.weight}
        assert len(held) == matrices
    with pytest.raises(InputError, match="share: all needs one vocabulary"):
        model(arch=arch, share="all")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"arch": "transformer", "dim": 9}, "dim .9. must be a multiple of num_heads .4."),
        ({"arch": "transformer", "coverage": True}, "need arch rnn"),
        ({"attention": "none", "coverage": True}, "coverage needs attention"),
    ],
)
def test_what_does_not_fit_together_is_said(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Config(**config)
