"""Makes what requests ask for, one batch at a time: a bounded queue and one thread that computes.

A request is one of `aigc sample`, and its files are the same. Requests that draw, or that write
texts, with the same options are answered in one batch: each has the noise of its own seed, so
another request beside it changes nothing. What works on an image is computed alone, since one image
already occupies the processor.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from aigc_cli.errors import AigcError, InputError, did_you_mean
from aigc_cli.models._text import TextModule
from aigc_cli.recipe.load import recipe_from_dict
from aigc_cli.run.conversation import Stream
from aigc_cli.run.request import Request
from aigc_cli.run.sample import make
from aigc_cli.run.trained import Trained
from aigc_cli.sampling.decoding import Answer
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.text.template import Messages


@dataclass(frozen=True)
class Made:
    """A file that was made."""

    name: str
    content: bytes
    facts: Mapping[str, Any]
    is_sample: bool = True


@dataclass
class Job:
    """One request of one model, and where its answer goes."""

    model: str
    options: tuple[str, ...] = ()
    request: Request | None = None
    """Files are wanted; `out` is a folder of the job's own."""
    messages: Messages | str | None = None
    """Or the next turn of a conversation, or of a text."""
    seed: int = 0
    say: Callable[[str], None] | None = None
    """Told the text of an answer as it comes."""
    future: Future[Any] = field(default_factory=Future)
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits any more."""

    @property
    def key(self) -> tuple[Any, ...]:
        """Jobs with the same are answered in one batch; unique where one is computed alone."""
        if self.request is None:
            return ("words", self.model, self.options, isinstance(self.messages, str))
        return ("files", id(self))


class FullError(Exception):
    """As many requests wait as may wait."""


class GoneError(Exception):
    """Nobody waits for the answer that is being written."""


@dataclass
class Seen:
    """What happens, for those who count."""

    batch: Callable[[str, int, float], None] = lambda model, size, seconds: None


class Engine:
    """Loaded models, and the thread that makes things with them."""

    def __init__(
        self,
        models: Mapping[str, Trained],
        *,
        queue: int = 64,
        batch_size: int = 16,
        window_s: float = 0.005,
        seen: Seen | None = None,
    ) -> None:
        """queue: jobs that may wait; batch_size: jobs answered at once; window_s: how long a job
        waits for others to share its batch when the thread is idle.
        """
        self.models = {
            name: replace(one, known_weights=one.weights) for name, one in models.items()
        }
        self.most_waiting, self.batch_size, self.window_s = queue, batch_size, window_s
        self.seen = seen or Seen()
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._ends = False
        self._options: dict[tuple[str, tuple[str, ...]], Trained] = {}
        self._thread = threading.Thread(target=self._work, name="aigc-engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Finish what waits, for so long at most."""
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def waiting(self) -> int:
        return len(self._waiting)

    def find(self, model: str) -> Trained:
        """
        Raises:
            InputError (code "model"): no such model is served.
        """
        if model not in self.models:
            hint = did_you_mean(model, self.models)
            raise InputError(f"model '{model}' is not served here", hint=hint, code="model")
        return self.models[model]

    def with_options(self, model: str, options: Sequence[str]) -> Trained:
        """The model with other values of its options; the network is the same.

        Raises:
            InputError: no such model. RecipeError: an option it has not, or a wrong value.
        """
        key = (model, tuple(options))
        if key not in self._options:
            trained = self.find(model)
            named = [f"sample.{text}" for text in options]
            recipe = recipe_from_dict(trained.recipe.as_dict(), trained.recipe.path, named)
            if len(self._options) > 256:
                self._options.clear()
            self._options[key] = replace(trained, recipe=recipe)
        return self._options[key]

    def submit(self, job: Job) -> Future[Any]:
        """Queue a job; its future has a list of `Made`, or an `Answer`.

        Raises:
            FullError: too many wait. AigcError: it cannot be done.
        """
        if job.request is None:
            _require_text(self.find(job.model), job)
        trained = self.with_options(job.model, job.options)
        if job.request is None and getattr(trained.recipe.sample, "beams", 1) > 1:
            raise InputError("beams: an answer is not searched for here", hint="set beams=1")
        with self._changed:
            if self._ends or len(self._waiting) >= self.most_waiting:
                raise FullError
            self._waiting.append(job)
            self._changed.notify_all()
        return job.future

    # The thread.

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            begun = time.perf_counter()
            try:
                self._answer(batch)
            except Exception as error:  # it belongs to those who asked, and the thread goes on
                for job in batch:
                    if not job.future.done():
                        job.future.set_exception(error)
            self.seen.batch(batch[0].model, len(batch), time.perf_counter() - begun)

    def _next_batch(self) -> list[Job] | None:
        """The oldest job and those that fit to it; None at the end."""
        with self._changed:
            while not self._waiting:
                if self._ends:
                    return None
                self._changed.wait()
            first = self._waiting[0]
            until = time.monotonic() + self.window_s
            while first.request is None and len(self._waiting) < self.batch_size and not self._ends:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            batch = [job for job in self._waiting if job.key == first.key][: self.batch_size]
            for job in batch:
                self._waiting.remove(job)
        for job in batch:
            if job.gone.is_set():
                job.future.cancel()
        alive = [job for job in batch if job.future.set_running_or_notify_cancel()]
        return alive or self._next_batch()

    def _answer(self, batch: list[Job]) -> None:
        trained = self.with_options(batch[0].model, batch[0].options)
        if batch[0].request is None:
            _write(trained, batch)
            return
        (job,) = batch
        assert job.request is not None
        job.future.set_result(files_of(trained, job.request))


def files_of(trained: Trained, request: Request) -> list[Made]:
    """What `aigc sample` would write, read back."""
    record = make(trained, request)
    found = []
    for item in record["items"]:
        facts = {k: v for k, v in item.items() if k not in ("path", "sample")}
        content = (request.out / item["path"]).read_bytes()
        found.append(Made(item["path"], content, facts, item.get("sample", True)))
    return found


def _require_text(trained: Trained, job: Job) -> None:
    """
    Raises:
        InputError: the model does not write texts, or knows no conversations.
    """
    if not isinstance(trained.model, TextModule):
        raise InputError(f"model '{job.model}' does not write texts", hint="POST /v1/sample")
    if not isinstance(job.messages, str) and not hasattr(trained.spec, "template"):
        raise InputError(
            f"model '{job.model}' was not trained on conversations",
            hint="POST /v1/completions continues a text",
        )


@torch.no_grad()
def _write(trained: Trained, batch: list[Job]) -> None:
    """Answer all jobs at once; one whose prompt cannot be read gets its error, and the others go
    on without it.
    """
    model: Any = trained.model
    options: Any = trained.recipe.sample
    jobs = list(batch)
    try:
        decoder = _read(model, jobs)
    except AigcError:
        jobs = [job for job in jobs if _is_readable(model, job)]
        if not jobs:
            return
        decoder = _read(model, jobs)
    noise = SampleNoise.joined([SampleNoise(job.seed, 0, 1) for job in jobs])
    streams = [Stream(model, options.stop, job.say or (lambda text: None)) for job in jobs]

    def watch(row: int, ids: Sequence[int]) -> None:
        if all(job.gone.is_set() for job in jobs):
            raise GoneError
        if jobs[row].say is not None:
            streams[row](row, ids)

    answers: list[list[Answer]] = model.answer(decoder, len(jobs), options, noise, 1, watch)
    for job, stream, (answer,) in zip(jobs, streams, answers, strict=True):
        if job.say is not None:
            stream.end(answer.text)
        job.future.set_result(answer)


def _read(model: Any, jobs: Sequence[Job]) -> Any:
    prompts = [job.messages for job in jobs]
    return model.read(prompts) if isinstance(prompts[0], str) else model.converse(prompts)


def _is_readable(model: Any, job: Job) -> bool:
    try:
        _read(model, [job])
    except AigcError as error:
        job.future.set_exception(error)
        return False
    return True
