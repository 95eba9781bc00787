"""The HTTP API: models, samples, completions, metrics, and the page.

Errors are JSON, `{"error": {"code", "message", "hint"?}}`: 404 no such model, 413 too large, 415
files of another kind, 422 what a model cannot use, 429 too many wait, 503 shutting down, 504 took
too long.
"""

from __future__ import annotations

import asyncio
import base64
import json
import mimetypes
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from aigc_cli import __version__
from aigc_cli.errors import AigcError, InputError, MissingError
from aigc_cli.modalities import find_modality
from aigc_cli.recipe.sections import Section
from aigc_cli.run.request import Request as Asked
from aigc_cli.run.serving.completions import add_completions
from aigc_cli.run.serving.engine import Engine, FullError, GoneError, Job, Made, Seen
from aigc_cli.run.serving.limits import Limits
from aigc_cli.run.serving.metrics import Counted, Metrics
from aigc_cli.run.trained import Trained

MOST_AT_ONCE = 64
"""Things that one request may ask for."""
CHECK_S = 0.25
"""How often it is seen whether a client still waits."""


@dataclass(frozen=True)
class Settings:
    """How much is served, to whom."""

    token: str | None = None
    max_mb: float = 32.0
    max_pixels: int = 16_000_000
    queue: int = 64
    batch_size: int = 16
    timeout_s: float = 120.0


class Service:
    """The engine as request handlers use it."""

    def __init__(self, models: Mapping[str, Trained], settings: Settings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.engine = Engine(
            models,
            queue=settings.queue,
            batch_size=settings.batch_size,
            seen=Seen(self.metrics.batch),
        )
        self.metrics.waiting(self.engine.waiting)

    async def answer(self, request: Request, job: Job) -> Any:
        """What the engine makes of a job, unless it takes too long or the client goes away.

        Raises:
            HTTPException: 429, 504. AigcError: it cannot be done. GoneError: nobody waits.
        """
        future = asyncio.wrap_future(await self.submit(job))
        until = time.monotonic() + self.settings.timeout_s
        while not future.done():
            left = until - time.monotonic()
            if left <= 0:
                job.gone.set()
                seconds = f"{self.settings.timeout_s:g} s"
                raise HTTPException(504, f"it took longer than {seconds}, and was given up")
            await asyncio.wait([future], timeout=min(left, CHECK_S))
            if not future.done() and await request.is_disconnected():
                job.gone.set()
                raise GoneError
        return await future

    async def submit(self, job: Job) -> Any:
        try:
            return await run_in_threadpool(self.engine.submit, job)
        except FullError:
            message = f"{self.engine.waiting()} requests wait already; try again later"
            raise HTTPException(429, message, headers={"Retry-After": "2"}) from None


def build_app(models: Mapping[str, Trained], settings: Settings) -> Any:
    """The application: an ASGI callable. The engine's thread runs while it does."""
    service = Service(models, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.engine.start()
        yield
        await run_in_threadpool(service.engine.stop, settings.timeout_s)

    app = FastAPI(
        title="aigc", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.state.service = service
    _add_errors(app)
    _add_samples(app, service)
    add_completions(app, service)
    _add_page(app, service)
    counted = Counted(app, service.metrics)
    return Limits(counted, token=settings.token, max_bytes=int(settings.max_mb * 1e6))


def _add_samples(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """What is served: what each model takes and makes, its options and classes."""
        found = [_described(name, one) for name, one in service.engine.models.items()]
        return {"object": "list", "data": found}

    @app.post("/v1/sample", response_model=None)
    async def sample(
        request: Request,
        model: Annotated[str, Form(description="A name of /v1/models.")],
        input: Annotated[list[UploadFile] | None, File(description="What is worked on.")] = None,
        reference: Annotated[list[UploadFile] | None, File(description="Such as a style.")] = None,
        prompt: Annotated[str | None, Form(max_length=100_000)] = None,
        n: Annotated[int | None, Form(ge=1, le=MOST_AT_ONCE)] = None,
        seed: Annotated[int, Form(ge=0, lt=2**31)] = 0,
        options: Annotated[str, Form(description="The model's options, as a JSON object.")] = "{}",
    ) -> Response:
        """What `aigc sample` makes, for one input or prompt or of noise alone.

        One file comes as it is, such as image/png; with `Accept: application/json`, and where there
        are several, all come as JSON with their contents in base64.
        """
        trained = service.engine.find(model)
        with TemporaryDirectory(prefix="aigc-serve-") as folder:
            out = Path(folder, "out")
            given = await _saved(input, Path(folder, "input"), trained)
            if len(given) > 1:
                raise HTTPException(422, "one input at a time")
            asked = Asked(
                out,
                input=given[0] if given else None,
                # Forms have \r\n for the end of a line, whatever was typed.
                prompts=() if prompt is None else (prompt.replace("\r\n", "\n"),),
                references=tuple(await _saved(reference, Path(folder, "reference"), trained)),
                count=n,
                seed=seed,
                reading=_reading(trained, service.settings),
            )
            job = Job(model, option_texts(options), asked)
            made = await service.answer(request, job)
        return _response(made, wants_json="application/json" in request.headers.get("accept", ""))


def _described(name: str, trained: Trained) -> dict[str, Any]:
    model, recipe = trained.model, trained.recipe
    endings = find_modality(model.takes).endings if model.takes else ()
    return {
        "id": name,
        "object": "model",
        "owned_by": "aigc",
        "family": recipe.family,
        "takes": model.takes,
        "input_optional": model.input_optional,
        "makes": model.makes,
        "references": list(model.reference_count),
        "endings": sorted(endings),
        "chat": hasattr(trained.spec, "template"),
        "classes": list(getattr(trained.spec, "labels", None) or ()),
        "options": type(recipe.sample).model_json_schema(),
        "values": recipe.sample.model_dump(mode="json"),
        "weights": trained.weights,
    }


async def _saved(
    uploads: Sequence[UploadFile] | None, folder: Path, trained: Trained
) -> list[Path]:
    """Uploads as files whose names are ours but for the ending.

    Raises:
        HTTPException: 415, an ending that the model does not take; 422, an empty one.
    """
    found = []
    for number, upload in enumerate(uploads or ()):
        takes = trained.model.takes
        if takes is None:
            raise HTTPException(422, "the model takes no input")
        ending = Path(upload.filename or "").suffix.lower()
        endings = find_modality(takes).endings
        if ending not in endings:
            known = ", ".join(sorted(endings))
            raise HTTPException(415, f"a file ending in '{ending}' is none of {known}")
        folder.mkdir(exist_ok=True)
        path = folder / f"{number}{ending}"
        size = 0
        with path.open("wb") as file:
            while piece := await upload.read(1 << 20):
                size += file.write(piece)
        if not size:
            raise HTTPException(422, f"{upload.filename}: is empty")
        found.append(path)
    return found


def _reading(trained: Trained, settings: Settings) -> tuple[str, ...]:
    takes = trained.model.takes
    reading: type[Section] = find_modality(takes).Reading if takes else Section
    return (f"max_pixels={settings.max_pixels}",) if "max_pixels" in reading.model_fields else ()


def option_texts(text: str | Mapping[str, Any]) -> tuple[str, ...]:
    """A JSON object as KEY=VALUE.

    Raises:
        InputError: it is none.
    """
    try:
        found = json.loads(text) if isinstance(text, str) else dict(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError("options: is not a JSON object", hint='such as {"temperature": 0.5}')
    return tuple(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in found.items())


def _response(made: Sequence[Made], *, wants_json: bool) -> Response:
    samples = [one for one in made if one.is_sample]
    if len(samples) == 1 and not wants_json:
        (one,) = samples
        facts = json.dumps({k: v for k, v in one.facts.items() if k != "sha256"})
        headers = {
            "content-disposition": f'inline; filename="{Path(one.name).name}"',
            "x-aigc-facts": facts.encode("ascii", "replace").decode(),
        }
        return Response(one.content, media_type=_kind(one.name), headers=headers)
    items = [
        {
            "name": one.name,
            "type": _kind(one.name),
            "sample": one.is_sample,
            "facts": dict(one.facts),
            "content": base64.b64encode(one.content).decode(),
        }
        for one in made
    ]
    return JSONResponse({"items": items})


def _kind(name: str) -> str:
    known = {".mid": "audio/midi", ".jsonl": "application/jsonl", ".csv": "text/csv"}
    return known.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "text/plain"


def _add_errors(app: FastAPI) -> None:
    def error(status: int, code: str, message: str, hint: str | None = None) -> JSONResponse:
        more = {} if hint is None else {"hint": hint}
        return JSONResponse({"error": {"code": code, "message": message, **more}}, status)

    @app.exception_handler(AigcError)
    async def refused(request: Request, failure: AigcError) -> JSONResponse:
        status = 422 if isinstance(failure, InputError) else 500
        status = 404 if failure.code == "model" else status
        status = 503 if isinstance(failure, MissingError) else status
        return error(status, failure.code, _without_places(failure.message), failure.hint)

    @app.exception_handler(HTTPException)
    async def known(request: Request, failure: HTTPException) -> JSONResponse:
        found = error(failure.status_code, f"http.{failure.status_code}", str(failure.detail))
        found.headers.update(failure.headers or {})
        return found

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, failure: RequestValidationError) -> JSONResponse:
        told = "; ".join(
            f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in failure.errors()
        )
        return error(422, "request", told)

    @app.exception_handler(GoneError)
    async def gone(request: Request, failure: GoneError) -> JSONResponse:
        return error(499, "gone", "the client went away")

    @app.exception_handler(Exception)
    async def bug(request: Request, failure: Exception) -> JSONResponse:
        return error(500, "bug", f"this is a bug in aigc: {type(failure).__name__}")


def _without_places(message: str) -> str:
    """Without the folders of this machine, which are nobody's business."""
    words = [
        Path(word.rstrip(":,")).name + word[len(word.rstrip(":,")) :]
        if "/aigc-serve-" in word
        else word
        for word in message.split(" ")
    ]
    return " ".join(words)


def _add_page(app: FastAPI, service: Service) -> None:
    pages = files("aigc_cli.run.serving") / "page"

    def page(name: str, kind: str) -> Callable[[], Response]:
        text = (pages / name).read_text(encoding="utf-8")
        return lambda: Response(text, media_type=kind, headers={"cache-control": "no-cache"})

    for path, name, kind in (
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/page.js", "page.js", "text/javascript; charset=utf-8"),
        ("/page.css", "page.css", "text/css; charset=utf-8"),
    ):
        app.add_api_route(path, page(name, kind), include_in_schema=False, response_model=None)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether it answers; how many requests wait."""
        return {
            "ok": True,
            "waiting": service.engine.waiting(),
            "models": len(service.engine.models),
        }

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")
