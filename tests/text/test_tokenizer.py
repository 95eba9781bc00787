# ruff: noqa: RUF001
"""Tokenizers: nothing is lost, nothing is special by accident, and training is reproducible."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_cli.errors import InputError
from aigc_cli.text.tokenizer import Tokenizer
from aigc_cli.text.tokenizer_training import Kind

CORPUS = [
    "The cat's well-known hat, isn't it?",
    "the dog (a big one) ran 3.5 km.",
    "我爱北京，你呢？",
    "東京タワーへ行く。",
    "zwei junge weiße Männer\n",
]
KINDS: list[Kind] = ["bpe", "unigram", "characters", "words"]
SIZES = {"bpe": 300, "unigram": 320, "characters": None, "words": None}
TRICKY = ["<eos>", "<0x0A>", "<unk>", "▁", "\n", " ", "🙂", "👩‍👩‍👧", "我", "a", "\x00", "�"]
TEXTS = st.text() | st.lists(st.sampled_from(TRICKY)).map("".join)


@cache
def trained(kind: Kind) -> Tokenizer:
    return Tokenizer.train(CORPUS, kind=kind, vocab_size=SIZES[kind])


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_every_unicode_text_comes_back(kind: Kind, text: str) -> None:
    tokenizer = trained(kind)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_characters_come_back_or_are_unknown(text: str) -> None:
    tokenizer = trained("characters")
    known = set("".join(CORPUS))
    expected = "".join(c if c in known else "<unk>" for c in text)
    assert tokenizer.decode(tokenizer.encode(text)) == expected


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_no_text_becomes_a_special_token(kind: Kind, text: str) -> None:
    tokenizer = trained(kind)
    assert not {0, 1, 2} & set(tokenizer.encode(text))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_bytes_of_the_tokens_are_bytes_of_the_text(kind: Kind, text: str) -> None:
    tokenizer = trained(kind)
    ids = tokenizer.encode(text)
    if tokenizer.unk_id in ids:
        return
    spaced = kind == "words"
    expected = "".join(f" {word}" for word in tokenizer.words(text)) if spaced else text
    assert sum(tokenizer.byte_lengths[number] for number in ids) == len(expected.encode())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_streamed_pieces_make_up_the_text(kind: Kind, text: str) -> None:
    tokenizer = trained(kind)
    push = tokenizer.stream()
    ids = tokenizer.encode(text)
    whole = tokenizer.decode(ids)
    assert "".join(map(push, ids)) == (whole.rstrip("�") if kind != "words" else whole)


def test_a_stream_never_gives_half_a_character() -> None:
    push = trained("bpe").stream()
    assert [push(number) for number in trained("bpe").encode("🙂!")] == ["", "", "", "🙂", "!"]


@pytest.mark.parametrize("kind", KINDS)
def test_specials_come_first_and_are_never_decoded(kind: Kind) -> None:
    tokenizer = trained(kind)
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2)
    assert tokenizer.id_of("<eos>") == 2
    assert tokenizer.decode([1, *tokenizer.encode("cat"), 2, 0, 0]) == tokenizer.decode(
        tokenizer.encode("cat")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_json_and_pickle_are_the_same_tokenizer(kind: Kind) -> None:
    tokenizer = trained(kind)
    for other in (Tokenizer.from_json(tokenizer.to_json()), pickle.loads(pickle.dumps(tokenizer))):
        assert other.digest == tokenizer.digest
        assert other.encode("the <eos> cat 我") == tokenizer.encode("the <eos> cat 我")


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_the_same_in_another_process(kind: Kind) -> None:
    code = (
        "import sys; from aigc_cli.text.tokenizer import Tokenizer;"
        f"print(Tokenizer.train(iter({CORPUS!r}), kind={kind!r}, vocab_size={SIZES[kind]}).digest)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == trained(kind).digest


def test_more_specials_follow() -> None:
    names = ("<pad>", "<bos>", "<eos>", "<|user|>")
    tokenizer = Tokenizer.train(CORPUS, kind="bpe", vocab_size=300, specials=names)
    assert tokenizer.id_of("<|user|>") == 3
    assert tokenizer.vocab_size == 300
    assert 3 not in tokenizer.encode("<|user|>")


def test_characters_without_specials_are_the_sorted_symbols() -> None:
    tokenizer = Tokenizer.train(["hello world\n"], kind="characters", specials=())
    assert tokenizer.tokens == sorted(set("hello world\n"))
    assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (None, None, None)
    assert tokenizer.decode(tokenizer.encode("hold")) == "hold"
    with pytest.raises(InputError, match="the character 'x' is none of the tokenizer's 9"):
        tokenizer.encode("x")


def test_words_are_counted_sorted_and_cut() -> None:
    texts = ["b a a", "c b a <eos>"]
    tokenizer = Tokenizer.train(texts, kind="words", min_count=2)
    assert tokenizer.tokens == ["<pad>", "<bos>", "<eos>", "<unk>", "a", "b"]
    assert tokenizer.encode("a c B") == [4, 3, 3]
    assert Tokenizer.train(texts, kind="words", vocab_size=5).tokens[4:] == ["a"]
    lower = Tokenizer.train(["A a"], kind="words", lowercase=True)
    assert lower.tokens[4:] == ["a"]
    assert lower.encode("A") == [4]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat's well-known.", ["The", "cat", "'s", "well", "-known", "."]),
        ("我爱的東京タワー!", ["我", "爱", "的", "東", "京", "タ", "ワ", "ー", "!"]),
        ("(3.5 km)", ["(", "3", ".5", "km", ")"]),
        ("naïve cafe\u0301", ["naïve", "cafe\u0301"]),
    ],
)
def test_words_split_as_the_languages_do(text: str, words: list[str]) -> None:
    tokenizer = Tokenizer.train([text], kind="words")
    assert tokenizer.words(text) == words
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1.0"}', "\x00"])
def test_damaged_json_is_one_sentence(text: str) -> None:
    with pytest.raises(InputError, match=r"^not a tokenizer: [^\n]*$"):
        Tokenizer.from_json(text)


def test_a_foreign_tokenizer_is_told_its_roles() -> None:
    foreign = json.loads(trained("bpe").to_json())
    foreign["post_processor"] = None
    text = json.dumps(foreign)
    ours = Tokenizer.adopt(text, eos="<eos>")
    assert (ours.bos_id, ours.eos_id, ours.pad_id) == (2, 2, 0)
    assert Tokenizer.from_json(ours.to_json()).eos_id == 2
    with pytest.raises(InputError, match="no token '</s>' to be its eos"):
        Tokenizer.adopt(text, eos="</s>")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "bpe", "vocab_size": 100}, "vocab_size 100 is less than the 256 bytes"),
        ({"kind": "words", "specials": ()}, "of kind words needs special tokens"),
        ({"kind": "words", "specials": ("pad", "bos", "eos")}, "'pad' is not written like <name>"),
        ({"kind": "words", "specials": ("<a>", "<b>")}, "are not 3 or more names"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tokenizer.train(CORPUS, **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_is_one_sentence(kind: Kind) -> None:
    with pytest.raises(InputError, match="there is no text to train a tokenizer on"):
        Tokenizer.train(iter(["", ""]), kind=kind)


def test_half_a_surrogate_pair_is_one_sentence() -> None:
    with pytest.raises(InputError, match="cannot be written in UTF-8"):
        trained("bpe").encode("\ud800")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.booleans(), st.booleans())
def test_characters_by_table_are_the_librarys(text: str, lowercase: bool, bare: bool) -> None:
    known = "ab <pad>ÄÅİß猫😀\n"
    specials = {"specials": ()} if bare else {}
    tokenizer = Tokenizer.train([known], kind="characters", lowercase=lowercase, **specials)
    if bare:
        text = "".join(c for c in text if c in known)
    texts = [text, known, text + known, ""]
    library = tokenizer._engine.encode_batch(texts, add_special_tokens=False)
    assert tokenizer.encode_batch(texts) == [encoding.ids for encoding in library]
    arrays = tokenizer.encode_arrays(texts)
    assert [ids.tolist() for ids in arrays] == tokenizer.encode_batch(texts)
