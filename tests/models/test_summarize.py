"""The pointer-generator: published size, copied words, probabilities that sum to one, coverage."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models._base import Run, _Noise
from aigc_cli.models.text._pairs import padded
from aigc_cli.models.text.summarize import Config, Model
from aigc_cli.recipe.sections import Trainer
from aigc_cli.sampling.decoding import Decoding
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.text import TextPairSpec
from aigc_cli.text.tokenizer import Tokenizer

KNOWN = "the of in is was a report on , . price falls rises today again"
SOURCES = ["the price of zinc falls in borneo, a report on zinc is out.", "gold rises today."]
NONE = SampleNoise(0, 0, 0)
TARGETS = ["zinc falls in borneo", "gold rises"]


def model(**config: Any) -> Model:
    torch.manual_seed(0)
    words = Tokenizer.train([KNOWN], kind="words").to_json()
    spec = TextPairSpec(words, words, max_source=20, max_target=12, copy=True)
    built = Model(Config(**{"dim": 8, "hidden_dim": 12, **config}), spec).eval()
    for weight in built.network.parameters():
        torch.nn.init.uniform_(weight, -0.5, 0.5)  # large enough for words to differ
    built.run = Run(Trainer(max_steps=10, global_batch=2), seed=0, max_steps=10)
    return built


def batch(built: Model) -> dict[str, Tensor]:
    pairs = [built.tokenizer.copy_ids(*pair) for pair in zip(SOURCES, TARGETS, strict=True)]
    source = padded([[*ids, built.eos] for ids, _ in pairs], built.pad)
    target = padded([[built.bos, *ids, built.eos] for _, ids in pairs], built.pad)
    return {
        "source": built.known(source),
        "target": built.known(target),
        "source_copy": source,
        "target_copy": target,
    }


def terms(built: Model, step: int = 0) -> dict[str, Tensor]:
    assert built.run is not None
    built.step = step
    built._noise = _Noise(0, built.run, torch.device("cpu"))
    return built.loss(batch(built))


@torch.no_grad()
def test_probabilities_sum_to_one_over_the_extended_vocabulary() -> None:
    built = model()
    decoder = built.read(SOURCES)
    tokens = None
    for _ in range(4):
        p = decoder.step(tokens).exp()
        assert p.shape[1] > built.vocab_size
        torch.testing.assert_close(p.sum(1), torch.ones(2))
        tokens = p.argmax(-1)


@torch.no_grad()
def test_the_mixture_is_what_one_computes_by_hand() -> None:
    built = model()
    V = built.vocab_size
    source = built.source_ids(SOURCES)
    made, _ = built.network.decode(
        torch.full((2, 1), built.bos), built.network.encode(built.known(source))
    )
    p_gen = made.switch.sigmoid()[:, 0]
    drawn = built.network.output(made.features[:, 0]).softmax(-1)
    p = built.read(SOURCES).step(None).exp()
    for b in range(2):
        for word in range(p.shape[1]):
            copied = sum(
                float(a) for a, w in zip(made.attention[b, 0], source[b], strict=True) if w == word
            )
            expected = (1 - p_gen[b]) * copied + (p_gen[b] * drawn[b, word] if word < V else 0)
            assert float(p[b, word]) == pytest.approx(float(expected), abs=1e-6)


@torch.no_grad()
def test_log_probs_are_those_of_the_decoder_step_by_step() -> None:
    built = model()
    source, target = built.sides(batch(built))
    log_probs = built.log_probs(source, target)
    decoder, expected = built.read(SOURCES), []
    for t in range(target.shape[1] - 1):
        logits = decoder.step(target[:, t] if t else None)
        expected.append(logits.gather(1, target[:, t + 1 : t + 2])[:, 0])
    kept = target[:, 1:] != built.pad
    torch.testing.assert_close(log_probs, torch.stack(expected, 1).masked_fill(~kept, 0))
    assert target.max() >= built.vocab_size  # zinc was copied
    values = built.evaluate_batch(batch(built))
    torch.testing.assert_close(values["nats"].float(), -log_probs.sum(1))


@torch.no_grad()
def test_a_ragged_batch_is_its_single_sources() -> None:
    built = model()
    together, alone = built.read(SOURCES), [built.read([text]) for text in SOURCES]
    tokens = None
    for _ in range(3):
        p = together.step(tokens).exp()
        for row, decoder in enumerate(alone):
            single = decoder.step(None if tokens is None else tokens[row : row + 1]).exp()[0]
            torch.testing.assert_close(p[row, : len(single)], single)
            assert p[row, len(single) :].eq(0).all()
        tokens = p.argmax(-1)


def test_words_outside_the_vocabulary_are_learned_written_and_read_back() -> None:
    built = model(lr=0.3)
    assert built.tokenizer.unk_id in built.tokenizer.encode("zinc")
    built.mean_weight = built.weight(batch(built)).float()
    optimizer = built.configure_optimizers()
    for _ in range(60):
        optimizer.zero_grad()
        terms(built)["loss"].backward()
        optimizer.step()
    for beams in (1, 3):
        answers = built.write(SOURCES, Decoding(temperature=0, beams=beams, max_tokens=8), NONE)
        assert [answer[0].text for answer in answers] == TARGETS
    # Words it never saw are copied as well: it has learned where to look, not what to say.
    made = built.write([SOURCES[1].replace("gold", "tin")], Decoding(temperature=0), NONE)
    assert made[0][0].text == "tin rises"


def test_coverage_is_charged_in_the_last_phase_only() -> None:
    built = model(coverage_after=0.8)
    early, late = terms(built, step=7), terms(built, step=8)
    assert early["loss"] == early["nll"]
    torch.testing.assert_close(late["loss"], late["nll"] + late["coverage"])
    assert terms(model(coverage_after=1.0), step=9)["coverage"] > 0  # told, not charged


@torch.no_grad()
def test_the_coverage_loss_is_the_least_of_attention_and_its_sum() -> None:
    built = model()
    source, target = built.sides(batch(built))
    state = built.network.encode(built.known(source))
    made, end = built.network.decode(built.known(target[:, :-1]), state)
    total = torch.zeros(source.shape)
    for t in range(target.shape[1] - 1):
        expected = torch.minimum(made.attention[:, t], total).sum(1)
        torch.testing.assert_close(made.overlap[:, t], expected)
        total = total + made.attention[:, t]
    torch.testing.assert_close(end.coverage, total)
    assert made.overlap[:, 0].eq(0).all()


def test_before_coverage_its_weight_is_and_stays_zero() -> None:
    built = Model(Config(dim=8, hidden_dim=12, coverage_after=1.0), model().spec)
    built.run = model().run
    assert built.network.attention.coverage is not None
    weight = built.network.attention.coverage.weight
    optimizer = built.configure_optimizers()
    for _ in range(2):
        optimizer.zero_grad()
        terms(built)["loss"].backward()
        optimizer.step()
    assert weight.eq(0).all()


def test_a_word_that_is_nowhere_gives_a_finite_loss() -> None:
    """As in a pair whose target was numbered by another source."""
    built = model()
    pairs = batch(built)
    pairs["target_copy"] = pairs["target_copy"].masked_fill(
        pairs["target_copy"] >= built.vocab_size, int(pairs["source_copy"].max()) + 5
    )
    loss = built.loss(pairs)["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in built.parameters() if p.grad is not None)


def test_only_the_beginning_of_a_long_source_is_read() -> None:
    built = model()
    assert built.source_ids(["the price " * 50]).shape == (1, 20)


def test_data_without_copying_is_refused() -> None:
    words = Tokenizer.train([KNOWN], kind="words").to_json()
    with pytest.raises(InputError, match="copied into the vocabulary"):
        Model(Config(), TextPairSpec(words, words, max_source=20, max_target=12))


def test_published_size() -> None:
    """Section 4: 21,499,600 weights of the baseline, 1,153 of the pointer, 512 of coverage; each of
    torch's three LSTMs has a second bias of 1,024.
    """
    words = Tokenizer.train([f"w{n}" for n in range(50_000 - 4)], kind="words").to_json()
    built = Model(Config(), TextPairSpec(words, words, max_source=400, max_target=100, copy=True))
    parameters = sum(p.numel() for p in built.parameters())
    assert parameters == 21_499_600 + 1_153 + 512 + 3 * 1_024
