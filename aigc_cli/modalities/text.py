"""Texts: prompts or the lines of a file in, all answers in one file out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aigc_cli.data._conversations import Message, conversation
from aigc_cli.data._example import write_lines
from aigc_cli.data._text_files import OBJECTS, Place, Record, TextFile
from aigc_cli.errors import DataError, PromptError
from aigc_cli.media.files import write_bytes
from aigc_cli.modalities import _modality
from aigc_cli.modalities import _text_data as text_data
from aigc_cli.modalities._findings import Findings
from aigc_cli.modalities._modality import Input, Inputs, Task, open_data
from aigc_cli.modalities._output import File, Kept, Output
from aigc_cli.models._text import Prompt, TextModule
from aigc_cli.recipe.load import Recipe
from aigc_cli.sampling.decoding import Answer

ROWS, PAGES = "samples.jsonl", "samples.txt"
KEYS = ("prompt", "source", "text", "instruction", "question")
"""Of a row of JSONL, in this order, where it has no `messages`."""


class Prompts(Inputs):
    """Texts, or conversations to be gone on with."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.prompts = prompts

    def __len__(self) -> int:
        return len(self.prompts)

    def name(self, number: int) -> str:
        return words_of(self.prompts[number])

    def __getitem__(self, number: int) -> Input:
        prompt = self.prompts[number]
        return Input(words_of(prompt), words_of(prompt), prompt)


def words_of(prompt: Any) -> str:
    """What a prompt is called: its text, or the last turn of a conversation."""
    return prompt if isinstance(prompt, str) else str(prompt[-1]["content"])


BLANK = Answer((), "", finished=True)


@dataclass(frozen=True)
class Unread:
    """Stands for the answer to a prompt that the model cannot read."""

    error: PromptError


class Writer(_modality.Writer):
    """A row of JSON for each text, and beside it the texts as a person reads them."""

    def __init__(self, output: Output, task: Task) -> None:
        super().__init__(output, task)
        self.continues = isinstance(task.model, TextModule) and task.model.continues
        self._rows: list[str] = []
        self._pages: list[str] = []
        self._last: list[tuple[str, str]] = []
        self._unread: list[PromptError] = []
        self._told = self._tokens = 0
        self._begun = time.perf_counter()

    def _add(
        self, prompt: str, index: int, made: Answer | Unread, beside: Mapping[str, Any]
    ) -> None:
        answer = BLANK if isinstance(made, Unread) else made
        facts = {"prompt": prompt, "text": answer.text, "seed": self.task.seed, "index": index}
        if isinstance(made, Unread):
            self._unread.append(made.error)
            facts |= {"error": made.error.message}
        else:
            facts |= {"tokens": len(answer.ids), "finished": answer.finished}
            facts |= {} if answer.score is None else {"score": round(answer.score, 4)}
        row = json.dumps({**facts, **beside}, ensure_ascii=False) + "\n"
        page = prompt + answer.text if self.continues else answer.text
        self._tokens += len(answer.ids)
        self._last.append((row, page))
        self._rows.append(row)
        self._pages.append(page)

    def drawn(self, number: int, made: Answer, facts: Mapping[str, Any]) -> list[File]:
        self._last = []
        self._add("", number, made, {})
        return []

    between = drawn

    def answered(self, number: int, input: Input, made: Sequence[Answer | Unread]) -> list[File]:
        self._last = []
        for index, answer in enumerate(made):
            self._add(input.thing, index, answer, input.beside)
        return []

    def state(self) -> list[tuple[str, str]]:
        return self._last

    def again(self, kept: Kept) -> bool:
        for row, page in kept.state:
            self._rows.append(row)
            self._pages.append(page)
        return True

    def shown(self) -> list[str]:
        new, self._told = self._pages[self._told :], len(self._pages)
        return [] if self._unread and not any(new) else new

    def facts(self) -> dict[str, Any]:
        seconds = max(time.perf_counter() - self._begun, 1e-9)
        unread = {"unread": len(self._unread)} if self._unread else {}
        return {"tokens": self._tokens, "tokens_per_s": round(self._tokens / seconds, 1), **unread}

    def failure(self) -> PromptError | None:
        if not self._unread or self.task.options.on_error == "skip":
            return None
        return PromptError(
            f"{len(self._unread)} of {len(self._rows)} texts have no answer, as their prompts "
            f"cannot be read: the field 'error' says why in {self.output.single or ROWS}",
            hint="the others are written; on_error=skip makes this a success",
        )

    def finish(self, rows: int | None = None) -> list[File]:
        """Raises PromptError when no prompt can be read; says why of the first."""
        if self._unread and len(self._unread) == len(self._rows):
            raise self._unread[0]
        lines = self._pages
        if not self.continues:  # a line each stands beside its source
            lines = [" ".join(page.splitlines()) for page in lines]
        apart = "\n\n" if self.continues else "\n"
        files = {self.output.single or self.output.own(ROWS): "".join(self._rows)}
        if self.output.single is None:
            files[self.output.own(PAGES)] = "".join(line + apart for line in lines)
        for path, content in files.items():
            write_bytes(path, content.encode())
        facts = {"seed": self.task.seed, "texts": len(self._rows)}
        return [File(path, facts) for path in files]


class Modality(_modality.Modality):
    """Texts."""

    name = "text"
    title = "texts"
    is_general = True  # a list of images, or of notes, can also be read as text
    endings = frozenset({".txt", ".jsonl", ".csv", ".tsv", ".json", ".parquet", ".gz"})
    column = "text"
    own_files = (ROWS, PAGES)
    single_file = True
    takes_prompts = True
    usual_count = 1
    usual_ways = 2

    def open(self, source: Path, task: Task, makes: _modality.Modality | None) -> Inputs:
        """A line each of a text file, or a row each of JSONL, where models of conversations find
        theirs.
        """
        file = TextFile(source, str(source))
        if file.form not in OBJECTS:
            prompts: list[Prompt] = list(file.lines())
        elif hasattr(task.model.spec, "template"):
            prompts = [_unanswered(conversation(row, place)) for place, row in file.records()]
        else:
            keys = KEYS if isinstance(task.model, TextModule) else ("text", *KEYS)
            prompts = [_prompt(row, place, keys) for place, row in file.records()]
        if not prompts:
            raise DataError(f"{source} is empty")
        return Prompts(prompts)

    def open_prompts(self, prompts: Sequence[str], task: Task) -> Inputs:
        return Prompts(list(prompts))

    def open_nothing(self, task: Task) -> Inputs:
        """An empty prompt, so that the best of several beams are answers to one."""
        return Prompts([""])

    def thing_of(self, given: Prompt, task: Task) -> str:
        if not isinstance(given, str) and isinstance(given[0], int):
            assert isinstance(task.model, TextModule)
            return task.model.prompt_tokenizer.decode(given)  # type: ignore[arg-type]
        return words_of(given)

    def at_once(self, batch_size: int, task: Task) -> int:
        return max(1, batch_size // max(task.count, getattr(task.options, "beams", 1)))

    def packed(self, inputs: Sequence[Input], task: Task) -> tuple[list[Prompt], Sequence[Any]]:
        return [input.given for input in inputs], ()

    def make(
        self, inputs: Sequence[Input], numbers: Sequence[int], task: Task, *, alone: bool
    ) -> list[Sequence[Any]]:
        """A blank prompt has blank answers, unless the model continues texts, or writes from
        nothing and is asked for nothing else; one that cannot be read has `Unread` ones.
        """
        model = task.model
        drawn = (isinstance(model, TextModule) and model.continues) or (
            model.input_optional and alone and inputs[0].given == ""
        )
        asked = [i for i, one in enumerate(inputs) if drawn or one.thing.strip()]
        made = dict(self._answered(inputs, numbers, asked, task))
        return [made.get(i, [BLANK] * task.count) for i in range(len(inputs))]

    def _answered(
        self, inputs: Sequence[Input], numbers: Sequence[int], places: Sequence[int], task: Task
    ) -> Iterator[tuple[int, Sequence[Any]]]:
        """Answers to the inputs at these places, written together; or why one is not read."""
        if not places:
            return
        group, own = [inputs[i] for i in places], [numbers[i] for i in places]
        try:
            yield from zip(places, super().make(group, own, task, alone=False), strict=True)
        except PromptError as error:
            if len(places) == 1:
                yield places[0], [Unread(error)] * task.count
                return
            for place in places:  # each alone, to see which it is
                yield from self._answered(inputs, numbers, [place], task)

    def example_files(self, folder: Path) -> list[Path]:
        write_lines(folder / "lines.txt", ["the cat", "the dog saw"])
        return [folder / "lines.txt"]

    def writer(self, output: Output, task: Task) -> Writer:
        return Writer(output, task)

    def recognizes(self, source: str) -> bool:
        return text_data.recognizes(source, self.endings)

    def opened(self, path: Path) -> str:
        return path.read_text(encoding="utf-8")

    def stored(self, source: str) -> _modality.Stored:
        return text_data.stored(source)

    def source_part(self, source: str) -> dict[str, Any]:
        return text_data.source_part(source)

    def parts_of(self, data: Any, recipe: Recipe) -> dict[str, dict[str, Any]]:
        return text_data.text_parts(data)

    def describe(self, subject: Recipe | str, n: int | None, sheet: Path | None) -> dict[str, Any]:
        facts = super().describe(subject, n, sheet)
        count = text_data.EXAMPLES if n is None else n
        if isinstance(subject, str):
            return {**facts, "examples": text_data.first(subject, count)}
        examples = list(open_data(subject).examples(count))
        return {**facts, "spec": text_data.plain_spec(facts["spec"]), "examples": examples}

    def inspect(self, subject: Recipe | str) -> Findings:
        findings = super().inspect(subject)
        told = text_data.source_warnings if isinstance(subject, str) else text_data.warnings
        for key, part in findings.parts.items():
            findings.warnings += told(key, part)
        return findings

    def part_lines(self, part: Mapping[str, Any]) -> Iterator[str]:
        return text_data.part_lines(part)

    def shown(self, example: Any) -> str:
        return text_data.shown(example)


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
