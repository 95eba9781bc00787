"""`aigc sample` where the model writes texts: to prompts, to the lines of a file, or to nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aigc_cli.data._conversations import Message, conversation
from aigc_cli.data._text_files import OBJECTS, Place, Record, TextFile
from aigc_cli.errors import DataError, InputError, PromptError
from aigc_cli.models._base import GenerativeModule
from aigc_cli.models._text import TextModule
from aigc_cli.run.folder import write_text
from aigc_cli.run.trained import Trained
from aigc_cli.sampling.decoding import Answer, Decoding
from aigc_cli.sampling.noise import SampleNoise

Prompt = str | list[Message]
"""A text, or a conversation to be gone on with."""
KEYS = ("prompt", "source", "text", "instruction", "question")
"""Of a row of JSONL, in this order, where it has no `messages`."""


BLANK = Answer((), "", finished=True)


@dataclass(frozen=True)
class Text:
    """An answer, which one it is, and what it was written to; `error` says why that was not read,
    and then the answer is blank.
    """

    index: int
    prompt: str
    answer: Answer
    error: PromptError | None = None

    def row(self, seed: int) -> dict[str, Any]:
        """Of samples.jsonl."""
        facts = {"prompt": self.prompt, "text": self.answer.text, "seed": seed, "index": self.index}
        if self.error is not None:
            return {**facts, "error": self.error.message}
        score = {} if self.answer.score is None else {"score": round(self.answer.score, 4)}
        ending = {"tokens": len(self.answer.ids), "finished": self.answer.finished}
        return {**facts, **ending, **score}


def answers_to(
    trained: Trained,
    prompts: Sequence[Prompt],
    *,
    count: int = 1,
    seed: int = 0,
    batch_size: int = 16,
) -> Iterator[Text]:
    """`count` answers to each prompt, in order; `batch_size` answers are written at once.

    Answer i to prompt p depends on the seed, p and i alone. A blank prompt has blank answers,
    unless the model continues texts, or writes from nothing and is asked for nothing else.
    """
    model, options = trained.model, trained.recipe.sample
    assert isinstance(model, TextModule)
    assert isinstance(options, Decoding)
    at_once = max(1, batch_size // max(count, options.beams))
    drawn = model.continues or (model.from_nothing and list(prompts) == [""])
    for first in range(0, len(prompts), at_once):
        numbers = range(len(prompts))[first : first + at_once]
        asked = [number for number in numbers if drawn or _words(prompts[number]).strip()]
        made = dict(_answered(model, prompts, asked, options, count, seed))
        for number in numbers:
            answers = made.get(number, [BLANK] * count)
            error = answers if isinstance(answers, PromptError) else None
            for index in range(count):
                answer = BLANK if isinstance(answers, PromptError) else answers[index]
                yield Text(index, _words(prompts[number]), answer, error)


def _answered(
    model: TextModule,
    prompts: Sequence[Prompt],
    numbers: Sequence[int],
    options: Decoding,
    count: int,
    seed: int,
) -> Iterator[tuple[int, list[Answer] | PromptError]]:
    """The answers to the prompts of these numbers, written together; or why one is not read."""
    if not numbers:
        return
    noise = SampleNoise.joined([SampleNoise(seed, number << 20, count) for number in numbers])
    try:
        several = _written(model, [prompts[n] for n in numbers], options, noise, count)
        yield from zip(numbers, several, strict=True)
    except PromptError as error:
        if len(numbers) == 1:
            yield numbers[0], error
            return
        for number in numbers:  # each alone, to see which it is
            yield from _answered(model, prompts, [number], options, count, seed)


def _words(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]


def _written(
    model: TextModule, prompts: Sequence[Prompt], options: Decoding, noise: SampleNoise, count: int
) -> list[list[Answer]]:
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    if len(texts) == len(prompts):
        return model.write(texts, options, noise, count=count)
    decoder = model.converse([prompt for prompt in prompts if not isinstance(prompt, str)])
    return model.answer(decoder, len(prompts), options, noise, count)


def between(
    trained: Trained, prompts: Sequence[Prompt], *, count: int, steps: int, seed: int
) -> Iterator[Text]:
    """The way from each prompt, or of `count` texts from each, to the next."""
    model, options = trained.model, trained.recipe.sample
    assert isinstance(model, TextModule)
    assert isinstance(options, Decoding)
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    answers = model.between(texts, steps, options, SampleNoise(seed, 0, count))
    for number, answer in enumerate(answers):
        yield Text(number, "", answer)


def write_texts(
    trained: Trained,
    prompts: Sequence[Prompt],
    *,
    out: Path,
    single: Path | None,
    count: int | None,
    interpolate: int,
    seed: int,
    batch_size: int,
    shown: Callable[[str], None],
) -> tuple[list[Path], int, dict[str, Any]]:
    """Write samples.jsonl and samples.txt in `out`, or only the file `single`: the files, how many
    texts, and how many tokens in which time; `unread` says of how many the prompt was not read.
    `shown` is told each text as a person reads it.

    Raises:
        PromptError: no prompt can be read; says why of the first.
    """
    model = trained.model
    assert isinstance(model, TextModule)
    begun, tokens = time.perf_counter(), 0
    rows: list[str] = []
    pages: list[str] = []
    unread: list[PromptError] = []
    made = (
        between(trained, prompts, count=count or 2, steps=interpolate, seed=seed)
        if interpolate
        else answers_to(trained, prompts, count=count or 1, seed=seed, batch_size=batch_size)
    )
    for text in made:
        tokens += len(text.answer.ids)
        rows.append(json.dumps(text.row(seed), ensure_ascii=False) + "\n")
        page = text.prompt + text.answer.text if model.continues else text.answer.text
        pages.append(page)
        if text.error is None:
            shown(page)
        else:
            unread.append(text.error)
    if unread and len(unread) == len(rows):
        raise unread[0]
    seconds = time.perf_counter() - begun
    if single is not None:
        files = {single: "".join(rows)}
    else:
        lines = pages if model.continues else [" ".join(page.splitlines()) for page in pages]
        apart = "\n\n" if model.continues else "\n"  # a line each stands beside its source
        sheet = "".join(line + apart for line in lines)
        files = {out / "samples.jsonl": "".join(rows), out / "samples.txt": sheet}
    for path, content in files.items():
        write_text(path, content)
    rate = round(tokens / max(seconds, 1e-9), 1)
    facts = {"tokens": tokens, "tokens_per_s": rate}
    return list(files), len(rows), {**facts, **({"unread": len(unread)} if unread else {})}


def open_prompts(
    model: GenerativeModule, given: Sequence[str], source: Path | None
) -> list[Prompt]:
    """What to write to, or to judge: what was given, a line each of a text file, or a row each of
    JSONL, where models of conversations find theirs. Some models also write from nothing.

    Raises:
        InputError: both or, where it takes one, none. DataError: the file cannot be used.
    """
    if given and source is not None:
        raise InputError("--prompt and --input are two ways to say the same: give one of them")
    if given:
        return list(given)
    if source is None:
        if isinstance(model, TextModule) and model.from_nothing:
            return [""]
        raise InputError(
            "the model works on texts and needs one",
            hint='add --prompt "...", or --input FILE with one a line',
        )
    file = TextFile(source, str(source))
    if file.form not in OBJECTS:
        prompts: list[Prompt] = list(file.lines())
    elif hasattr(model.spec, "template"):
        prompts = [_unanswered(conversation(row, place)) for place, row in file.records()]
    else:
        keys = KEYS if isinstance(model, TextModule) else ("text", *KEYS)  # what is judged
        prompts = [_prompt(row, place, keys) for place, row in file.records()]
    if not prompts:
        raise DataError(f"{source} is empty")
    return prompts


def _unanswered(messages: list[Message]) -> list[Message]:
    """Without the answer that the conversation ends with."""
    return messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages


def _prompt(row: Record, place: Place, keys: Sequence[str]) -> str:
    assert isinstance(row, dict)
    key = next((key for key in keys if isinstance(row.get(key), str)), None)
    if key is None:
        raise DataError(
            f"{place}: no text under any of {', '.join(KEYS)}; keys: {', '.join(row) or 'none'}"
        )
    text: str = row[key]
    return text
