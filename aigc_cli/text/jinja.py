"""Which of our templates a chat template of another program is: the one that writes the same texts.

The Jinja text came with a model, so it runs in the sandbox that `transformers` runs it in too.
"""

from __future__ import annotations

from typing import Any, NoReturn

from aigc_cli.text.template import TEMPLATES, Messages, Template
from aigc_cli.text.tokenizer import Tokenizer

_PROBES: tuple[tuple[tuple[str, ...], bool], ...] = (
    (("system", "user", "assistant", "user"), True),
    (("system", "user", "assistant"), False),
    (("user",), True),
    (("user", "assistant", "user"), True),
)
"""Roles of a conversation, and whether an answer is begun."""


def recognize(jinja: str, tokenizer: Tokenizer) -> Template | None:
    """The template that writes every probe as `jinja` does; None where none does."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    tokens: dict[str, Any] = {
        f"{role}_token": "" if number is None else tokenizer.tokens[number]
        for role, number in (("bos", tokenizer.bos_id), ("eos", tokenizer.eos_id))
    }
    try:
        compiled = environment.from_string(jinja)
        theirs = [
            compiled.render(messages=_said(roles), add_generation_prompt=begun, **tokens)
            for roles, begun in _PROBES
        ]
    except Exception:  # whatever a foreign template does that ours do not
        return None
    for template in TEMPLATES.values():
        if set(template.needs) <= set(tokenizer.tokens) and theirs == [
            _written(template, _said(roles), begun, tokens) for roles, begun in _PROBES
        ]:
            return template
    return None


def _said(roles: tuple[str, ...]) -> Messages:
    return [{"role": role, "content": f"Words {n}: a b."} for n, role in enumerate(roles)]


def _written(template: Template, messages: Messages, begun: bool, tokens: dict[str, str]) -> str:
    pieces = template.pieces(messages, answer=begun)
    return "".join(tokens.get(f"{p.text}_token", p.text) if p.token else p.text for p in pieces)
