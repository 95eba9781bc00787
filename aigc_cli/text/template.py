"""How the turns of a conversation become one text, and which of its tokens are learned.

| name     | a turn                                            | ends an answer | from         |
|----------|---------------------------------------------------|----------------|--------------|
| `turns`  | `<|user|>` text eos                               | eos            | this toolkit |
| `chatml` | `<|im_start|>` user, line end, text, `<|im_end|>` | `<|im_end|>`   | OpenAI, Qwen |
| `text`   | `User: ` text, empty line; `Assistant: ` text eos | eos            | this toolkit |

`llama3` is Meta's, with `<|start_header_id|>`, `<|end_header_id|>` and `<|eot_id|>`.
`smollm2`, `qwen2` and `qwen2.5` are chatml with the system turn that those models expect where a
conversation has none.

`text` needs no tokens of its own, so any language model can go on with it. Learned are the answers
and the token that ends each, always. A message that spells a special token stays text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from aigc_cli.errors import InputError, did_you_mean
from aigc_cli.text.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant", "tool")
Messages = Sequence[Mapping[str, str]]
"""Turns with `role` and `content`."""


class Piece(NamedTuple):
    """A stretch of a conversation: text, or the name of one token."""

    text: str
    token: bool = False
    learned: bool = False


BOS, EOS = Piece("bos", token=True), Piece("eos", token=True)
"""Roles rather than names: those of the tokenizer are meant."""


@dataclass(frozen=True)
class Template:
    """A way to write conversations."""

    name: str
    jinja: str
    """The same, for programs that take such a text; `bos_token` and `eos_token` are theirs."""
    begin: tuple[Piece, ...]
    opening: Callable[[str], tuple[Piece, ...]]
    """What comes before the words of a role."""
    end: Piece
    """What ends an answer."""
    closing: tuple[Piece, ...]
    """What ends the words of the others."""
    space: str = ""
    """Between the opening and the words."""
    after: tuple[Piece, ...] = ()
    """Behind the end of an answer, not learned."""
    needs: tuple[str, ...] = ()
    """Tokens that the tokenizer must have."""
    system: str = ""
    """Words of the system turn of conversations that begin with none; empty for none."""

    def for_others(self, tokenizer: Tokenizer) -> str:
        """Its Jinja for programs that cut the written conversation into tokens as one text: what
        spells a special token in a message gets a space behind its first character, `< eos>`, or
        whoever writes a message could end a turn and begin another.
        """
        content = "message['content']"
        for token in tokenizer.specials:
            content += f"|replace({token!r}, {f'{token[0]} {token[1:]}'!r})"
        return self.jinja.replace("message['content']", f"({content})")

    def check(self, tokenizer: Tokenizer) -> None:
        """
        Raises:
            InputError: the tokenizer lacks tokens of the template.
        """
        known = set(tokenizer.tokens)
        if missing := [name for name in self.needs if name not in known]:
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
        pieces = self.pieces(messages, answer=answer)
        for (token, mine), group in groupby(pieces, key=lambda piece: (piece.token, piece.learned)):
            names = [piece.text for piece in group]
            # Text that is not parted by a token is cut into tokens as one, as other programs do.
            more = self._ids(names, tokenizer) if token else tokenizer.encode("".join(names))
            ids += more
            learned += [mine] * len(more)
        return ids, learned

    def _ids(self, names: Sequence[str], tokenizer: Tokenizer) -> list[int]:
        roles = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id}
        found = [roles[n] if n in roles else tokenizer.id_of(n) for n in names]
        return [number for number in found if number is not None]

    def end_id(self, tokenizer: Tokenizer) -> int:
        """The token that ends an answer. Raises as `check`."""
        self.check(tokenizer)
        (number,) = self._ids([self.end.text], tokenizer)
        return number

    def pieces(self, messages: Messages, *, answer: bool = False) -> Iterator[Piece]:
        """
        Raises:
            InputError: a role is unknown.
        """
        yield from self.begin
        if self.system and messages and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.system}, *messages]
        for message in messages:
            role, content = message["role"], message["content"]
            if role not in ROLES:
                raise InputError(f"role {role!r} is not known", hint=did_you_mean(role, ROLES))
            yield from self.opening(role)
            mine = role == "assistant"
            yield Piece(self.space + content, learned=mine)
            yield from (self.end._replace(learned=True), *self.after) if mine else self.closing
        if answer:
            yield from self.opening("assistant")


def _marked(role: str) -> tuple[Piece, ...]:
    """The token of a role; a tool, which has none, speaks in a turn of the user."""
    if role == "tool":
        return Piece("<|user|>", token=True), Piece("Tool: ")
    return (Piece(f"<|{role}|>", token=True),)


TEMPLATES = {
    template.name: template
    for template in (
        Template(
            "turns",
            "{{ bos_token }}{% for message in messages %}"
            "{% if message['role'] == 'tool' %}<|user|>Tool: "
            "{% else %}<|{{ message['role'] }}|>{% endif %}"
            "{{ message['content'] }}{{ eos_token }}{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}",
            begin=(BOS,),
            opening=_marked,
            end=EOS,
            closing=(EOS,),
            needs=tuple(f"<|{role}|>" for role in ROLES if role != "tool"),
        ),
        Template(
            "chatml",
            "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' "
            "+ message['content'] + '<|im_end|>\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
            begin=(),
            opening=lambda role: (Piece("<|im_start|>", token=True), Piece(f"{role}\n")),
            end=Piece("<|im_end|>", token=True),
            closing=(Piece("<|im_end|>", token=True), Piece("\n")),
            after=(Piece("\n"),),
            needs=("<|im_start|>", "<|im_end|>"),
        ),
        Template(
            "text",
            "{{ bos_token }}{% for message in messages %}"
            "{{ message['role'].capitalize() + ': ' + message['content'] }}"
            "{% if message['role'] == 'assistant' %}{{ eos_token }}"
            "{% else %}{{ '\n\n' }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}Assistant:{% endif %}",
            begin=(BOS,),
            opening=lambda role: (Piece(f"{role.capitalize()}:"),),
            end=EOS,
            closing=(Piece("\n\n"),),
            space=" ",
        ),
        Template(
            "llama3",
            "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' "
            "+ message['role'] + '<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' }}"
            "{% endfor %}{% if add_generation_prompt %}"
            "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
            begin=(BOS,),
            opening=lambda role: (
                Piece("<|start_header_id|>", token=True),
                Piece(role),
                Piece("<|end_header_id|>", token=True),
                Piece("\n\n"),
            ),
            end=Piece("<|eot_id|>", token=True),
            closing=(Piece("<|eot_id|>", token=True),),
            needs=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        ),
    )
}
TEMPLATES |= {
    name: replace(
        TEMPLATES["chatml"],
        name=name,
        system=system,
        jinja="{% if messages and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
        f"{system}<|im_end|>\n' }}}}{{% endif %}}{TEMPLATES['chatml'].jinja}",
    )
    for name, system in {
        "smollm2": "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
        "qwen2": "You are a helpful assistant.",
        "qwen2.5": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    }.items()
}


def find_template(name: str) -> Template:
    """
    Raises:
        InputError: there is none of that name.
    """
    if name not in TEMPLATES:
        raise InputError(f"unknown template {name!r}", hint=did_you_mean(name, TEMPLATES))
    return TEMPLATES[name]
