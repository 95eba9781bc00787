"""chat, dpo and grpo: what is learned, from where they start, and their objectives by hand."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models._base import Batch, GenerativeModule, Run
from aigc_cli.models.text import chat, dpo, grpo, lm
from aigc_cli.models.text._tuned import TunedModule
from aigc_cli.nn.policy import group_advantages
from aigc_cli.recipe.sections import Trainer
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.text import IGNORE, ChatSpec, PreferenceSpec, PromptSpec, TextSpec
from aigc_cli.text.tokenizer import SPECIALS, Tokenizer

CHAT = ("<|system|>", "<|user|>", "<|assistant|>")
WORDS = "what who is a the cat dog here there yes no maybe"
CONTEXT = 32
SMALL: dict[str, Any] = {"dim": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 32}
LORA: dict[str, Any] = {"rank": 2, "alpha": 4.0}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([WORDS], kind="words", specials=(*SPECIALS, *CHAT))


def build(family: Any, tokenizer: Tokenizer, **config: Any) -> Any:
    torch.manual_seed(0)
    spec: Any = {
        chat: ChatSpec(tokenizer.to_json(), CONTEXT, "turns"),
        dpo: PreferenceSpec(tokenizer.to_json(), CONTEXT, "turns"),
        grpo: PromptSpec(tokenizer.to_json(), CONTEXT, "turns"),
        lm: TextSpec(tokenizer.to_json(), CONTEXT),
    }[family]
    model = family.Model(family.Config(**{**SMALL, **config}), spec)
    model.run = Run(Trainer(max_steps=1, global_batch=2), seed=0, max_steps=1)
    return model


def perturbed(model: GenerativeModule) -> None:
    """Move every trained weight, as training would."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


def conversation(model: TunedModule, *turns: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """tokens and target (T,)"""
    messages = [{"role": role, "content": content} for role, content in turns]
    ids, learned = model.template.encode(messages, model.tokenizer)
    target = [i if mine else IGNORE for i, mine in zip(ids, learned, strict=True)]
    return torch.tensor(ids[:-1]), torch.tensor(target[1:])


def padded(rows: list[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def preferences(model: TunedModule, *pairs: tuple[str, str, str]) -> Batch:
    batch: Batch = {}
    for name, place in (("chosen", 1), ("rejected", 2)):
        rows = [
            conversation(model, ("user", pair[0]), ("assistant", pair[place])) for pair in pairs
        ]
        batch[name] = padded([tokens for tokens, _ in rows], 0)
        batch[f"{name}_target"] = padded([target for _, target in rows], IGNORE)
    return batch


PAIRS = (("what is here", "a cat", "no"), ("who is there", "yes yes yes", "the dog is a dog"))


# Chat.


def test_only_answers_and_their_ends_are_learned(tokenizer: Tokenizer) -> None:
    model = build(chat, tokenizer)
    _, target = conversation(
        model,
        ("user", "what is here"),
        ("assistant", "a cat"),
        ("user", "who"),
        ("assistant", "no"),
    )
    learned = [token for token in target.tolist() if token != IGNORE]
    end = tokenizer.eos_id
    assert learned == [*tokenizer.encode("a cat"), end, *tokenizer.encode("no"), end]


def test_it_learns_an_answer_and_to_stop(tokenizer: Tokenizer) -> None:
    model = build(chat, tokenizer, lr=1e-2)
    rows = [
        conversation(model, ("user", "what is here"), ("assistant", "a cat")),
        conversation(model, ("user", "who is there"), ("assistant", "the dog")),
    ]
    batch = {
        "tokens": padded([tokens for tokens, _ in rows], 0),
        "target": padded([target for _, target in rows], IGNORE),
    }
    optimizer = model.configure_optimizers()
    model.mean_weight = model.weight(batch)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch)["loss"].backward()
        optimizer.step()
    answers = model.eval().write(
        ["what is here", "who is there"], chat.Options(temperature=0.0), None
    )
    assert [several[0].text for several in answers] == ["a cat", "the dog"]
    assert all(several[0].finished for several in answers)
    for number, answer in enumerate(["a cat", "the dog"]):
        item = {name: rows[number : number + 1] for name, rows in batch.items()}
        example = model.example(item, chat.Options())
        assert example.beside == {"reference": answer}
        greedy = chat.Options(temperature=0.0)
        (made,) = model.sample(SampleNoise(0, 0, 1), greedy, [example.given])
        assert made.text == answer


def test_a_prompt_that_leaves_no_room_is_said(tokenizer: Tokenizer) -> None:
    model = build(chat, tokenizer)
    with pytest.raises(InputError, match="has 44 tokens, and the model reads less than 32"):
        model.read([" ".join(["cat"] * 40)])


def test_a_tokenizer_without_turns_is_said(tokenizer: Tokenizer) -> None:
    plain = Tokenizer.train([WORDS], kind="words")
    with pytest.raises(InputError, match=r"template turns needs the token <\|system\|>"):
        build(chat, plain)


@pytest.mark.parametrize("arch", ["llama", "classic"])
def test_adapters_begin_as_the_model_they_adapt(tokenizer: Tokenizer, arch: str) -> None:
    whole = build(chat, tokenizer, arch=arch)
    model = build(chat, tokenizer, arch=arch, lora=LORA)
    model.load_state_dict(whole.state_dict(), strict=False)
    tokens = torch.arange(20)[None] % tokenizer.vocab_size
    assert torch.equal(model.net(tokens), whole.net(tokens))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(".lora_" in name for name in trained)
    layers = {"llama": 7, "classic": 4}[arch]
    assert len(trained) == 2 * 2 * layers
    owned = [p for group in model.configure_optimizers().param_groups for p in group["params"]]
    assert len(owned) == len(trained)


def test_embeddings_can_be_trained_with_adapters(tokenizer: Tokenizer) -> None:
    model = build(chat, tokenizer, tied=False, lora={**LORA, "embeddings": True})
    others = {n for n, p in model.named_parameters() if p.requires_grad and ".lora_" not in n}
    assert others == {"net.model.embed_tokens.weight", "net.lm_head.weight"}


# Where they start.


def test_they_start_from_all_weights_of_a_language_model(tokenizer: Tokenizer) -> None:
    source = build(lm, tokenizer)
    perturbed(source)
    cases: list[tuple[Any, dict[str, Any]]] = [
        (chat, {}), (chat, {"lora": LORA}), (dpo, {}), (grpo, {"beta": 0.1, **GRPO}),
    ]  # fmt: skip
    for family, config in cases:
        model = build(family, tokenizer, **config)
        found = model.initial(source.state_dict(), source.spec)
        missing = model.load_state_dict(found, strict=False)
        assert all(".lora_" in name for name in missing.missing_keys)
        assert not missing.unexpected_keys
        state = model.state_dict()
        for name, value in source.state_dict().items():
            assert torch.equal(state[name], value)
            copied = f"reference.{name.removeprefix('net.')}"
            assert torch.equal(state.get(copied, value), value)


def test_adapters_of_the_source_are_merged(tokenizer: Tokenizer) -> None:
    source = build(chat, tokenizer, lora=LORA).eval()
    perturbed(source)
    model = build(dpo, tokenizer, lora=LORA).eval()
    model.load_state_dict(model.initial(source.state_dict(), source.spec), strict=False)
    tokens = torch.arange(20)[None] % tokenizer.vocab_size
    torch.testing.assert_close(model.net(tokens), source.net(tokens), rtol=0, atol=1e-5)


def test_positions_beyond_the_context_are_left_out(tokenizer: Tokenizer) -> None:
    source = lm.Model(
        lm.Config(**SMALL, arch="classic"), TextSpec(tokenizer.to_json(), 2 * CONTEXT)
    )
    model = build(chat, tokenizer, arch="classic")
    model.load_state_dict(model.initial(source.state_dict(), source.spec), strict=False)
    wide = source.net.state_dict()["transformer.wpe.weight"]
    assert torch.equal(model.net.state_dict()["transformer.wpe.weight"], wide[:CONTEXT])


def test_another_tokenizer_is_refused_by_digest(tokenizer: Tokenizer) -> None:
    other = Tokenizer.train(["other words"], kind="words", specials=(*SPECIALS, *CHAT))
    source, model = build(lm, other), build(chat, tokenizer)
    with pytest.raises(InputError) as caught:
        model.initial(source.state_dict(), source.spec)
    assert other.digest[:12] in str(caught.value)
    assert tokenizer.digest[:12] in str(caught.value)


def test_a_network_of_another_shape_is_refused(tokenizer: Tokenizer) -> None:
    model = build(chat, tokenizer)
    for config, said in (
        ({"hidden_dim": 24}, r"mlp.gate_proj.weight' is \(24, 16\) there and \(32, 16\) here"),
        ({"num_layers": 1}, "layers.1.input_layernorm.weight' is absent there"),
    ):
        source = build(lm, tokenizer, **config)
        with pytest.raises(InputError, match=said):
            model.initial(source.state_dict(), source.spec)


# Preferences.


def dpo_model(tokenizer: Tokenizer, **config: Any) -> Any:
    model = build(dpo, tokenizer, **config)
    model.mean_weight = torch.tensor(2.0)
    return model


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_loss_is_ln_2_before_the_first_step(tokenizer: Tokenizer, lora: Any) -> None:
    config = {"lora": lora} if lora else {}
    model = dpo_model(tokenizer, dropout=0.5, **config).train()
    terms = model.loss(preferences(model, *PAIRS))
    assert terms["loss"].item() == torch.tensor(log(2)).item()
    assert terms["margin"].item() == 0.0


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_reference_stays_while_the_policy_learns(tokenizer: Tokenizer, lora: Any) -> None:
    model = dpo_model(tokenizer, lr=1e-2, **({"lora": lora} if lora else {}))
    batch = preferences(model, *PAIRS)
    tokens, target = batch["chosen"], batch["chosen_target"]
    before = model.reference_nats(tokens, target)
    assert torch.equal(before, model.net(tokens, target=target))
    optimizer = model.configure_optimizers()
    for _ in range(5):
        optimizer.zero_grad()
        model.loss(batch)["loss"].backward()
        optimizer.step()
    assert torch.equal(model.reference_nats(tokens, target), before)
    terms = model.loss(batch)
    assert terms["loss"] < log(2)
    assert terms["accuracy"] == 1.0
    assert terms["margin"] > 0


def log_prob(model: Any, prompt: str, answer: str, *, reference: bool = False) -> tuple[float, int]:
    """Of one answer, from logits, token by token."""
    tokens, target = conversation(model, ("user", prompt), ("assistant", answer))
    net = model.reference if reference else model.net
    with torch.no_grad():
        log_probs = net(tokens[None])[0].double().log_softmax(-1)
    learned = [(t, int(y)) for t, y in enumerate(target.tolist()) if y != IGNORE]
    return sum(float(log_probs[t, y]) for t, y in learned), len(learned)


@pytest.mark.parametrize(
    "config",
    [{}, {"label_smoothing": 0.1}, {"objective": "ipo"}, {"length_normalized": True, "beta": 2.0},
     {"nll": 0.5}],
)  # fmt: skip
def test_a_pair_by_hand(tokenizer: Tokenizer, config: dict[str, Any]) -> None:
    model = dpo_model(tokenizer, **{"beta": 0.3, **config})
    perturbed(model)
    batch = preferences(model, *PAIRS)
    losses, chosen_sum = [], 0.0
    for prompt, better, worse in PAIRS:
        (w, n), (v, m) = log_prob(model, prompt, better), log_prob(model, prompt, worse)
        rw, rv = (log_prob(model, prompt, a, reference=True)[0] for a in (better, worse))
        nll = -w / n
        if config.get("length_normalized"):
            w, rw, v, rv = w / n, rw / n, v / m, rv / m
        h, beta = (w - rw) - (v - rv), model.config.beta
        if config.get("objective") == "ipo":
            losses.append((h - 1 / (2 * beta)) ** 2)
        else:
            e = config.get("label_smoothing", 0.0)
            s = 1 / (1 + exp(-beta * h))
            losses.append(-(1 - e) * log(s) - e * log(1 - s))
        losses[-1] += config.get("nll", 0.0) * nll
        chosen_sum += w
    terms = model.loss(batch)
    assert terms["loss"].item() == pytest.approx(sum(losses) / 2, rel=1e-4)
    assert terms["chosen"].item() == pytest.approx(chosen_sum / 2, rel=1e-4)


def test_a_pair_with_nothing_learned_counts_nothing(tokenizer: Tokenizer) -> None:
    model = dpo_model(tokenizer)
    perturbed(model)
    whole = preferences(model, *PAIRS)
    whole["rejected_target"][1] = IGNORE
    assert model.weight(whole) == 1
    model.mean_weight = model.weight(whole)
    first = {name: rows[:1] for name, rows in whole.items()}
    torch.testing.assert_close(model.loss(whole)["loss"], model.loss(first)["loss"])
    model.eval()
    with torch.no_grad():
        means = {k: float(v.double().mean()) for k, v in model.evaluate_batch(whole).items()}
        alone = {k: float(v.double().mean()) for k, v in model.evaluate_batch(first).items()}
    assert model.summarize(means) == pytest.approx(model.summarize(alone), rel=1e-5)


# Rewards.

GRPO: dict[str, Any] = {"samples": 4, "max_tokens": 8, "rewards": {"length:9": 1.0}}


def prompts(model: TunedModule, *texts: str) -> Batch:
    rows = [torch.tensor(model.prompt_ids(text)) for text in texts]
    width = max(map(len, rows))
    pad = model.tokenizer.pad_id
    left = [torch.cat([torch.full((width - len(row),), pad), row]) for row in rows]
    references = [torch.tensor(model.tokenizer.encode("a cat")) for _ in rows]
    return {"prompt": torch.stack(left), "reference": torch.stack(references)}


def grpo_model(tokenizer: Tokenizer, **config: Any) -> Any:
    return build(grpo, tokenizer, **{**GRPO, **config})


QUESTIONS = ("what is here", "who is there yes or no", "a", "the dog")


def test_samples_follow_from_seed_and_step(tokenizer: Tokenizer) -> None:
    model = grpo_model(tokenizer)
    batch = prompts(model, *QUESTIONS)
    first, again = model.expand(batch), model.expand(batch)
    assert all(torch.equal(first[key], again[key]) for key in first)
    model.step = 1
    assert not torch.equal(first["tokens"], model.expand(batch)["tokens"])


def test_two_devices_draw_what_one_draws(tokenizer: Tokenizer) -> None:
    model = grpo_model(tokenizer)
    batch = prompts(model, *QUESTIONS)
    whole = model.expand(batch)
    for rank in (0, 1):
        model.run = replace(model.run, rank=rank, world=2)
        mine = slice(2 * rank, 2 * rank + 2)
        half = model.expand({key: rows[mine] for key, rows in batch.items()})
        T = half["target"].shape[2]
        torch.testing.assert_close(half["reward"], whole["reward"][mine])
        assert torch.equal(half["target"], whole["target"][mine, :, :T])


def test_targets_are_the_answer_and_its_end(tokenizer: Tokenizer) -> None:
    model = grpo_model(tokenizer, max_tokens=3)
    batch = model.expand(prompts(model, *QUESTIONS))
    prompt = model.prompt_ids(QUESTIONS[0])
    for tokens, target in zip(batch["tokens"][0], batch["target"][0], strict=True):
        learned = target != IGNORE
        assert tokens[: len(prompt)].tolist() == prompt
        assert int(learned.int().argmax()) == len(prompt) - 1
        answer = target[learned].tolist()
        assert len(answer) == 3 or answer[-1] == model.end_id
        assert tokens[len(prompt) :][: len(answer) - 1].tolist() == answer[:-1]


def test_the_gradient_is_that_of_the_policy(tokenizer: Tokenizer) -> None:
    """With one update the ratio is 1, and the loss has the gradient of -A log p over tokens."""
    model = grpo_model(tokenizer)
    batch = model.expand(prompts(model, *QUESTIONS))
    model.mean_weight = model.weight(batch).double()
    model.loss(batch)["loss"].backward()
    gradients = [p.grad.clone() for p in model.net.parameters()]
    model.zero_grad()
    total = torch.zeros(())
    advantages = group_advantages(batch["reward"], scale=True)
    for b in range(len(QUESTIONS)):
        for g in range(4):
            x, y = batch["tokens"][b, g], batch["target"][b, g]
            log_probs = model.net(x[None])[0].log_softmax(-1)
            for t in (y != IGNORE).nonzero()[:, 0].tolist():
                total = total - advantages[b, g] * log_probs[t, y[t]]
    (total / model.mean_weight).backward()
    for ours, parameter in zip(gradients, model.net.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("normalizer", ["grpo", "dr_grpo", "dapo"])
def test_accumulated_parts_have_the_gradient_of_the_whole(
    tokenizer: Tokenizer, normalizer: str
) -> None:
    model = grpo_model(tokenizer, normalizer=normalizer, beta=0.1)
    perturbed(model)
    batch = model.expand(prompts(model, *QUESTIONS))

    def gradient(parts: int) -> Tensor:
        model.zero_grad()
        model.mean_weight = model.weight(batch).double() / parts
        for number in range(parts):
            part = {key: rows.chunk(parts)[number] for key, rows in batch.items()}
            (model.loss(part)["loss"] / parts).backward()
        return torch.cat([p.grad.flatten() for p in model.net.parameters()])

    torch.testing.assert_close(gradient(1), gradient(4), rtol=1e-4, atol=1e-6)


def test_the_ratio_counts_from_the_second_update_on(tokenizer: Tokenizer) -> None:
    model = grpo_model(tokenizer, updates=2)
    assert len(model.phases()) == 2
    batch = model.expand(prompts(model, *QUESTIONS))
    model.mean_weight = model.weight(batch).double()
    assert model.loss(batch)["clipped"] == 0
    perturbed(model)
    assert model.loss(batch)["clipped"] > 0


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_divergence_begins_at_zero(tokenizer: Tokenizer, lora: Any) -> None:
    model = grpo_model(tokenizer, beta=0.1, **({"lora": lora} if lora else {}))
    batch = model.expand(prompts(model, *QUESTIONS))
    assert model.loss(batch)["kl"] == 0
    perturbed(model)
    assert model.loss(batch)["kl"] > 0


def test_without_divergence_there_is_no_second_model(tokenizer: Tokenizer) -> None:
    assert grpo_model(tokenizer).reference is None
    assert grpo_model(tokenizer, beta=0.1, lora=LORA).reference is None
    assert grpo_model(tokenizer, beta=0.1).reference is not None


def test_metrics_compare_with_the_references(tokenizer: Tokenizer) -> None:
    model = grpo_model(tokenizer, rewards={"token_f1": 1.0}).eval()
    batch = prompts(model, *QUESTIONS)
    values = model.evaluate_batch(batch)
    assert values.keys() == {"reward", "unrewarded"}
    assert values["reward"].shape == (4,)
    assert ((values["reward"] >= 0) & (values["reward"] <= 1)).all()
    del batch["reference"]
    with pytest.raises(InputError, match="compares with references, and the data has none"):
        model.evaluate_batch(batch)


def test_no_room_for_a_prompt_is_said(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"max_tokens \(32\) leaves no room"):
        grpo_model(tokenizer, max_tokens=32)
