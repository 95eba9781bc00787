"""`aigc sample --chat`: a conversation in the terminal, or with lines that come through a pipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aigc_cli.data._text_files import TextFile
from aigc_cli.errors import AigcError, DataError, InputError, OutputError, did_you_mean
from aigc_cli.models._text import TextModule
from aigc_cli.run.folder import write_text
from aigc_cli.run.trained import Trained
from aigc_cli.sampling.decoding import Decoding
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.text.template import ROLES

COMMANDS = {
    "/regenerate": "another answer to the last turn",
    "/save FILE": "write the conversation, as one line of chat data",
    "/load FILE": "go on with a conversation that was written",
    "/new": "begin again; the system turn stays",
    "/quit": "end",
}


@dataclass
class Conversation:
    """What was said, and how the next answer is drawn."""

    model: TextModule
    options: Decoding
    seed: int = 0
    messages: list[dict[str, str]] = field(default_factory=list)
    answers: int = 0

    def answer(self, say: Callable[[str], None]) -> int:
        """Answer the last turn, telling the text as it comes; how many turns were left out, the
        oldest after the system's, because they have no place in the context.

        Raises:
            InputError: the last turn alone is too long; it is taken back.
        """
        kept = self.messages
        while True:
            try:
                decoder = self.model.converse([kept])
                break
            except InputError:
                if (shorter := _without_the_oldest(kept)) is None:
                    self.messages.pop()
                    raise
                kept = shorter
        left_out = len(self.messages) - len(kept)
        told = Stream(self.model, self.options.stop, say)
        noise = SampleNoise(self.seed, self.answers << 20, 1)
        self.answers += 1
        ((answer,),) = self.model.answer(decoder, 1, self.options, noise, watch=told)
        told.end(answer.text)
        self.messages.append({"role": "assistant", "content": answer.text})
        return left_out

    def take_back(self) -> None:
        """Forget the last answer.

        Raises:
            InputError: there is none.
        """
        if not self.messages or self.messages[-1]["role"] != "assistant":
            raise InputError("nothing was answered yet")
        self.messages.pop()

    def forget(self) -> None:
        """Keep the system's turn only."""
        self.messages = [m for m in self.messages[:1] if m["role"] == "system"]


def _without_the_oldest(messages: list[dict[str, str]]) -> list[dict[str, str]] | None:
    """Without the oldest turn and its answer, but with the system's; None where one is left."""
    system = [m for m in messages[:1] if m["role"] == "system"]
    rest = messages[len(system) :]
    later = [number for number, m in enumerate(rest) if number and m["role"] == "user"]
    return [*system, *rest[later[0] :]] if later else None


class Stream:
    """Tells the text of tokens piece by piece: never half a character, nor what may be a stop."""

    def __init__(self, model: TextModule, stops: Sequence[str], say: Callable[[str], None]) -> None:
        self._model, self._stops, self._say = model, stops, say
        self._told = 0

    def __call__(self, row: int, ids: Sequence[int]) -> None:
        text = self._model.text_of(row, ids).rstrip("\ufffd")
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self.end(text[: len(text) - held])

    def end(self, text: str) -> None:
        """Tell what is left of the whole text."""
        if len(text) > self._told:
            self._say(text[self._told :])
            self._told = len(text)


def _overlap(text: str, stop: str) -> int:
    """How many of the last characters may be the beginning of a stop, or are one."""
    if stop in text:
        return len(text) - text.index(stop)
    return max((n for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)


def chat(
    trained: Trained,
    lines: Iterable[str],
    *,
    say: Callable[[str], None],
    note: Callable[[str], None],
    system: str | None = None,
    seed: int = 0,
) -> Conversation:
    """Answer each line, or do what it commands, until /quit or the end of the lines. `say` is told
    answers as they are written, `note` everything else.

    Raises:
        InputError: the model was not trained on conversations.
    """
    model, options = trained.model, trained.recipe.sample
    family = trained.recipe.family
    if not isinstance(model, TextModule) or not isinstance(options, Decoding):
        raise InputError(f"--chat is for models that write texts; family '{family}' does not")
    if not hasattr(model.spec, "template"):
        raise InputError(
            f"--chat: family '{family}' was not trained on conversations",
            hint="continue a text with --prompt, or train a chat model with init_from",
        )
    if options.beams > 1:
        raise InputError(f"beams={options.beams}: an answer that streams is not searched for")
    talk = Conversation(model, options, seed)
    if system:
        talk.messages.append({"role": "system", "content": system})
    for line in lines:
        text = line.strip()
        if text == "/quit":
            break
        try:
            _turn(talk, text, say, note)
        except KeyboardInterrupt:
            say("\n")
            note("stopped; the turn is taken back")
            talk.messages.pop()
        except AigcError as error:  # the conversation goes on
            note(f"error: {error.message}" + (f"; {error.hint}" if error.hint else ""))
    return talk


def _turn(
    talk: Conversation, text: str, say: Callable[[str], None], note: Callable[[str], None]
) -> None:
    command, _, argument = text.partition(" ")
    match command:
        case "":
            return
        case "/new":
            talk.forget()
            return
        case "/save":
            _save(talk, argument)
            note(f"wrote {argument}")
            return
        case "/load":
            talk.messages = _load(argument)
            note(f"{len(talk.messages)} turns")
            return
        case "/regenerate":
            talk.take_back()
        case "/help":
            note("\n".join(f"{name:14} {what}" for name, what in COMMANDS.items()))
            return
        case _ if command.startswith("/"):
            names = [name.split()[0] for name in COMMANDS]
            raise InputError(f"{command} is no command", hint=did_you_mean(command, names))
        case _:
            talk.messages.append({"role": "user", "content": text})
    left_out = talk.answer(say)
    say("\n")
    if left_out:
        note(f"{left_out} old turns have no place in the context and were not read")


def _save(talk: Conversation, name: str) -> None:
    if not name:
        raise InputError("/save needs the name of a file")
    try:
        write_text(Path(name), json.dumps({"messages": talk.messages}, ensure_ascii=False) + "\n")
    except OSError as error:
        raise OutputError(f"{name}: cannot be written: {error.strerror}") from error


def _load(name: str) -> list[dict[str, str]]:
    if not name:
        raise InputError("/load needs the name of a file")
    for place, record in TextFile(Path(name), name).records():
        messages = record.get("messages") if isinstance(record, dict) else None
        if isinstance(messages, list) and all(_is_message(m) for m in messages):
            return [{"role": m["role"], "content": m["content"]} for m in messages]
        raise DataError(f"{place}: no `messages` with role and content")
    raise DataError(f"{name}: is empty")


def _is_message(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.get("role") in ROLES
        and isinstance(value.get("content"), str)
    )
