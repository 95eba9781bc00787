"""Text models in the shape that clients of chat services speak: /v1/chat/completions and
/v1/completions, whole or as a stream of server-sent events.

Of the fields of these requests are used: model, messages or prompt, max_tokens (or
max_completion_tokens), temperature, top_p, stop, seed, stream; `options` has whatever else the
model knows. Others are ignored, as clients send many.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from aigc_cli.errors import AigcError
from aigc_cli.run.serving.engine import GoneError, Job

Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Message(BaseModel):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=1_000_000)


class _Completion(BaseModel):
    model: str
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0)
    top_p: float | None = Field(None, gt=0, le=1)
    stop: str | list[str] | None = None
    seed: Seed = 0
    n: Literal[1] = 1
    stream: bool = False
    options: dict[str, Any] = {}
    """Other options of the model, as in `aigc sample`."""

    def texts(self) -> tuple[str, ...]:
        """As KEY=VALUE."""
        asked = {
            "max_tokens": self.max_completion_tokens or self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop,
        }
        given = {key: value for key, value in asked.items() if value is not None} | self.options
        return tuple(f"{key}={json.dumps(v, ensure_ascii=False)}" for key, v in given.items())


class ChatRequest(_Completion):
    """A conversation whose next turn is asked for."""

    messages: list[Message] = Field(min_length=1, max_length=1000)


class TextRequest(_Completion):
    """A text that is continued, or answered where the model does that."""

    prompt: str = Field(max_length=1_000_000)


class _Service(Protocol):
    settings: Any

    async def answer(self, request: Request, job: Job) -> Any: ...

    async def submit(self, job: Job) -> Any: ...


def add_completions(app: FastAPI, service: _Service) -> None:
    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request, asked: ChatRequest) -> Any:
        """The next turn of a conversation."""
        turns = [turn.model_dump() for turn in asked.messages]
        return await _complete(service, request, asked, turns, "chat.completion")

    @app.post("/v1/completions", response_model=None)
    async def text(request: Request, asked: TextRequest) -> Any:
        """A text that goes on from a prompt, or answers it."""
        return await _complete(service, request, asked, asked.prompt, "text_completion")


async def _complete(
    service: _Service, request: Request, asked: _Completion, given: Any, kind: str
) -> Any:
    job = Job(asked.model, asked.texts(), messages=given, seed=asked.seed)
    head = {
        "id": f"aigc-{uuid.uuid4().hex[:24]}",
        "created": int(time.time()),
        "model": asked.model,
    }
    if asked.stream:
        loop, told = asyncio.get_running_loop(), asyncio.Queue[str | None]()

        def say(text: str) -> None:
            loop.call_soon_threadsafe(told.put_nowait, text)

        job.say = say
        future = await service.submit(job)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(told.put_nowait, None))
        events = _events(service, job, told, head, kind)
        return StreamingResponse(events, media_type="text/event-stream")
    answer = await service.answer(request, job)
    choice: dict[str, Any] = {"index": 0, "finish_reason": _reason(answer)}
    if kind == "chat.completion":
        choice["message"] = {"role": "assistant", "content": answer.text}
    else:
        choice["text"] = answer.text
    usage = {"completion_tokens": len(answer.ids)}
    return {**head, "object": kind, "choices": [choice], "usage": usage}


async def _events(
    service: _Service,
    job: Job,
    told: asyncio.Queue[str | None],
    head: dict[str, Any],
    kind: str,
) -> AsyncIterator[str]:
    """The answer piece by piece; what goes wrong on the way is an event, too."""
    is_chat = kind == "chat.completion"
    until = time.monotonic() + service.settings.timeout_s
    name = f"{kind}.chunk" if is_chat else kind

    def event(choice: dict[str, Any]) -> str:
        data = {**head, "object": name, "choices": [{"index": 0, **choice}]}
        return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"

    def piece(text: str) -> str:
        part: dict[str, Any] = {"delta": {"content": text}} if is_chat else {"text": text}
        return event({**part, "finish_reason": None})

    try:
        if is_chat:
            yield event({"delta": {"role": "assistant", "content": ""}, "finish_reason": None})
        while (text := await asyncio.wait_for(told.get(), until - time.monotonic())) is not None:
            yield piece(text)
        answer = job.future.result()
        end: dict[str, Any] = {"delta": {}} if is_chat else {"text": ""}
        yield event({**end, "finish_reason": _reason(answer)})
        yield "data: [DONE]\n\n"
    except TimeoutError:
        message = f"it took longer than {service.settings.timeout_s:g} s, and was given up"
        yield _error("http.504", message)
    except AigcError as error:
        yield _error(error.code, error.message)
    except (GoneError, HTTPException) as error:
        yield _error("gone", str(error))
    finally:  # also when the client goes away in the middle
        job.gone.set()


def _error(code: str, message: str) -> str:
    return f"data: {json.dumps({'error': {'code': code, 'message': message}})}\n\n"


def _reason(answer: Any) -> str:
    return "stop" if answer.finished else "length"
