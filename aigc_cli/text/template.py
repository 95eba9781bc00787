"""How the turns of a conversation become one text, and which of its tokens are learned.

| name     | a turn                                               | ends an answer | from           |
|----------|------------------------------------------------------|----------------|----------------|
| `turns`  | `<|user|>` text eos                                  | eos            | this toolkit   |
| `chatml` | `<|im_start|>` user, line end, text, `<|im_end|>`    | `<|im_end|>`   | OpenAI, Qwen   |
| `text`   | `User: ` text, empty line; `Assistant: ` text eos    | eos            | this toolkit   |

`text` needs no tokens of its own, so any language model can go on with it. Learned are the answers
and the token that ends each, always. A message that spells a special token stays text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from aigc_cli.errors import InputError, did_you_mean
from aigc_cli.text.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant")
Messages = Sequence[Mapping[str, str]]
"""Turns with `role` and `content`."""


class Piece(NamedTuple):
    """A stretch of a conversation: text, or the name of one token."""

    text: str
    token: bool = False
    learned: bool = False


BOS, EOS = Piece("bos", token=True), Piece("eos", token=True)
"""Roles rather than names: those of the tokenizer are meant."""


class Template:
    """A way to write conversations. `jinja` is the same for programs that take such a template."""

    def __init__(self, name: str, jinja: str, end: str, needs: Sequence[str] = ()) -> None:
        self.name, self.jinja, self._end, self._needs = name, jinja, end, needs

    def check(self, tokenizer: Tokenizer) -> None:
        """
        Raises:
            InputError: the tokenizer lacks tokens of the template.
        """
        known = set(tokenizer.tokens)
        if missing := [name for name in self._needs if name not in known]:
            raise InputError(
                f"template {self.name} needs the token {missing[0]}, which the tokenizer has not",
                hint="train it with data.tokenizer.specials=chat, or set data.template=text",
                code="tokenizer",
            )
        if tokenizer.eos_id is None:
            raise InputError(
                "the tokenizer has no token that ends a text, so no answer would end",
                hint="train it with data.tokenizer.specials=texts or chat",
                code="tokenizer",
            )

    def encode(
        self, messages: Messages, tokenizer: Tokenizer, *, answer: bool = False
    ) -> tuple[list[int], list[bool]]:
        """Ids of a conversation and which are learned; `answer` adds what begins an answer.

        Raises:
            InputError: as `check`; a role is unknown.
        """
        ids: list[int] = []
        learned: list[bool] = []
        for piece in self.pieces(messages, answer=answer):
            more = self._ids(piece, tokenizer) if piece.token else tokenizer.encode(piece.text)
            ids += more
            learned += [piece.learned] * len(more)
        return ids, learned

    def _ids(self, piece: Piece, tokenizer: Tokenizer) -> list[int]:
        if piece.text not in ("bos", "eos"):
            return [tokenizer.id_of(piece.text)]
        number = tokenizer.bos_id if piece.text == "bos" else tokenizer.eos_id
        return [] if number is None else [number]

    def end_id(self, tokenizer: Tokenizer) -> int:
        """The token that ends an answer. Raises as `check`."""
        self.check(tokenizer)
        (number,) = self._ids(Piece(self._end, token=True), tokenizer)
        return number

    def pieces(self, messages: Messages, *, answer: bool = False) -> Iterator[Piece]:
        """
        Raises:
            InputError: a role is unknown.
        """
        if self.name != "chatml":
            yield BOS
        for message in messages:
            role = message["role"]
            if role not in ROLES:
                raise InputError(f"role {role!r} is not known", hint=did_you_mean(role, ROLES))
            yield from self._turn(role, message["content"])
        if answer:
            yield from self._opening("assistant")

    def _opening(self, role: str) -> Iterator[Piece]:
        match self.name:
            case "turns":
                yield Piece(f"<|{role}|>", token=True)
            case "chatml":
                yield Piece("<|im_start|>", token=True)
                yield Piece(f"{role}\n")
            case _:
                yield Piece(f"{role.capitalize()}:")

    def _turn(self, role: str, content: str) -> Iterator[Piece]:
        mine = role == "assistant"
        yield from self._opening(role)
        yield Piece(f" {content}" if self.name == "text" else content, learned=mine)
        match self.name:
            case "turns":
                yield EOS._replace(learned=mine)
            case "chatml":
                yield Piece("<|im_end|>", token=True, learned=mine)
                yield Piece("\n")
            case _:
                yield EOS._replace(learned=mine) if mine else Piece("\n\n")


TEMPLATES = {
    template.name: template
    for template in (
        Template(
            "turns",
            "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>"
            "{{ message['content'] }}{{ eos_token }}{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}",
            end="eos",
            needs=("<|system|>", "<|user|>", "<|assistant|>"),
        ),
        Template(
            "chatml",
            "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
            "{{ message['content'] }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
            end="<|im_end|>",
            needs=("<|im_start|>", "<|im_end|>"),
        ),
        Template(
            "text",
            "{{ bos_token }}{% for message in messages %}{{ message['role'].capitalize() }}: "
            "{{ message['content'] }}{% if message['role'] == 'assistant' %}{{ eos_token }}"
            "{% else %}\n\n{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}Assistant:{% endif %}",
            end="eos",
        ),
    )
}


def find_template(name: str) -> Template:
    """
    Raises:
        InputError: there is none of that name.
    """
    if name not in TEMPLATES:
        raise InputError(f"unknown template {name!r}", hint=did_you_mean(name, TEMPLATES))
    return TEMPLATES[name]
