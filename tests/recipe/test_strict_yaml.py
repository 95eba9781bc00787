"""What a recipe's text means, and every way in which YAML may not be used."""

from __future__ import annotations

import json
import math
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_cli.errors import RecipeError
from aigc_cli.recipe.strict_yaml import MAX_BYTES, MAX_DEPTH, decode, parse, scalar
from aigc_cli.recipe.write import to_yaml


def problems(text: str | bytes) -> list[str]:
    raw = text.encode() if isinstance(text, str) else text
    return [str(problem) for problem in parse(raw, "r.yaml").problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1e3", 1000.0),
        ("2E+2", 200.0),
        ("-1.5", -1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("0", 0),
        ("-12", -12),
        ("+3", 3),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    read = scalar(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *("no", "yes", "on", "off", "y", "No"),
        *("010", "0123", "-007", "00", "0x1f", "0o17", "0b1", "1_000", "9" * 31, "." + "5" * 40),
        *("12:30:00", "190:20:30", "2023-09-16", "2023-09-16 12:00:00"),
        *("1e", "e5", "1.2.3", "=", "<<", "٣"),
    ],
)
def test_the_traps_of_yaml_1_1_are_text(text: str) -> None:
    assert scalar(text) == text
    assert parse(f"key: {text}".encode(), "r").data == {"key": text}


def test_quoted_and_block_text_is_never_a_number() -> None:
    text = "a: '1'\nb: \"true\"\nc: |\n  1\nd: >-\n  null\ne: !!str 1"
    assert parse(text.rpartition("\n")[0].encode(), "r").data == {
        "a": "1",
        "b": "true",
        "c": "1\n",
        "d": "null",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.yaml: the file is empty, see `aigc recipe ls` for recipes to copy"),
        (
            "# only\n# comments\n",
            "r.yaml: the file is empty, see `aigc recipe ls` for recipes to copy",
        ),
        ("a: 1\na: 2", "r.yaml:2: a: given twice, first in line 1"),
        ("m:\n  x: 1\n  y: 2\n  x: 1", "r.yaml:4: m.x: given twice, first in line 2"),
        ("a: &x 1", "r.yaml:1: anchors (&) and aliases (*) are not used in recipes"),
        ("a: 1\nb: *x", "r.yaml:2: anchors (&) and aliases (*) are not used in recipes"),
        ("&a [*a]", "r.yaml:1: anchors (&) and aliases (*) are not used in recipes"),
        ("a: !!str 1", "r.yaml:1: tags (tag:yaml.org,2002:str) are not used in recipes"),
        ("a: ! x", "r.yaml:1: tags (!) are not used in recipes"),
        ("a: 1\n---\nb: 2", "r.yaml:3: a second document begins here; a recipe is one document"),
        ("a:\n\tb: 1", "r.yaml:2: a tab is used for indentation, use spaces"),
        ("[a]: 1", "r.yaml:1: a key is one word, not a list or a mapping"),
        ("? {a: 1}\n: 2", "r.yaml:1: a key is one word, not a list or a mapping"),
        ("a: b: c", "r.yaml:1: not valid YAML: mapping values are not allowed here"),
        ("a: [1, 2", "r.yaml:1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ('a: "x', "r.yaml:1: not valid YAML: found unexpected end of stream"),
        ("a: 1\nb: \x07", "r.yaml:2: character U+0007 is not allowed"),
        ("a: \x00", "r.yaml:1: character U+0000 is not allowed"),
        ('a: "\\ud800"', "r.yaml:1: an escape in the text is half of a surrogate pair"),
        ('"\\udc00": 1', "r.yaml:1: an escape in the text is half of a surrogate pair"),
        (b"a: 1\nb: caf\xe9", "r.yaml:2: byte 0xe9 is not UTF-8, save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "r.yaml:1: byte 0xff is not UTF-8, save the file as UTF-8"),
    ],
)
def test_one_sentence_says_what_is_wrong_with_the_text(text: str | bytes, message: str) -> None:
    assert problems(text) == [message]


def test_every_duplicate_key_is_reported_and_the_first_value_kept() -> None:
    document = parse(b"a: 1\nb: 2\na: 3\nb: 4\na: 5", "r")
    assert [p.line for p in document.problems] == [3, 4, 5]
    assert document.data == {"a": 1, "b": 2}


BOMBS = {
    "laughs": "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*a, *a]\n" for c in "bcdefghij"),
    "nested flow": "a: " + "[" * 50_000,
    "nested flow mapping": "a: " + "{a: " * 20_000,
    "nested block": "".join(" " * i + "a:\n" for i in range(400)),
    "nested sequence": "- " * 40_000,
    "long key": "k" * 90_000 + ": 1",
    "long text": "a: " + "x " * 45_000,
    "many keys": "".join(f"k{i}: 1\n" for i in range(8_000)),
    "many duplicates": "a: 1\n" * 15_000,
    "quotes": '"' * 90_000,
    "digits": "a: " + "9" * 90_000,
    "binary": "\x01" * 90_000,
    "50 MB": "a: 1\n" * 10_000_000,
    "python object": "a: !!python/object/apply:os.system ['touch pwned']",
    "questions": "? " * 40_000,
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_no_text_takes_long(text: str) -> None:
    raw = text.encode()[: MAX_BYTES + 1]
    start = time.process_time()
    parse(raw, "r.yaml")
    assert time.process_time() - start < 2  # about 0.5 s on an idle core


def test_python_objects_are_refused_by_name() -> None:
    text = "a: !!python/object/apply:os.system ['true']"
    tag = "tag:yaml.org,2002:python/object/apply:os.system"
    assert problems(text) == [f"r.yaml:1: tags ({tag}) are not used in recipes"]


def test_depth_and_size_are_bounded() -> None:
    deep = "a: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert problems(deep) == []
    assert problems(f"b: {{{deep}}}") == [f"r.yaml:1: nested deeper than {MAX_DEPTH} levels"]
    assert problems(b"#" * (MAX_BYTES + 1)) == [
        "r.yaml: the file is larger than a recipe may be (100,000 bytes)"
    ]


def test_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    document = parse(b"\xef\xbb\xbfa: 1\r\nb:\r\n  c: 2\r\n", "r")
    assert document.data == {"a": 1, "b": {"c": 2}}
    assert document.lines[("b", "c")] == 3
    assert document.problems == []


def test_lines_of_keys_and_items() -> None:
    lines = parse(b"# comment\na:\n  - 1\n  - x: 2\nb: {c: 3,\n  d: 4}\n", "r").lines
    assert lines[("a",)] == 2
    assert lines[("a", 0)] == 3
    assert lines[("a", 1, "x")] == 4
    assert lines[("b", "c")] == 5
    assert lines[("b", "d")] == 6


def test_decode_raises_the_same_problem() -> None:
    with pytest.raises(RecipeError, match="byte 0xff is not UTF-8"):
        decode(b"\xff", "r.yaml")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_plain_data_or_problems(raw: bytes) -> None:
    document = parse(raw, "r.yaml")
    if not document.problems:
        json.dumps(document.data, ensure_ascii=False).encode()


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
    | st.sampled_from(["no", "1e-4", "010", "2023-09-16", "a: b", "x #y", "- a", "[", "12:30"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abc: #{", min_size=1, max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text("abcde_", min_size=1, max_size=8), plain, min_size=1, max_size=5))
def test_what_is_written_reads_back_the_same(data: dict[str, object]) -> None:
    text = to_yaml(data)
    document = parse(text.encode(), "r")
    assert document.problems == []
    assert document.data == data
    assert yaml.safe_load(text) == data  # for readers of YAML 1.1 too
