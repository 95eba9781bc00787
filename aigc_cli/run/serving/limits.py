"""Who may ask, and how much: checked before a request is read, as ASGI asks for it."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN = frozenset({"/", "/page.js", "/page.css", "/health"})
"""What needs no token: the page asks for it."""
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class TooLargeError(Exception):
    """A body goes on behind the limit."""


class Limits:
    """Refuses other sites' pages, callers without the token, and bodies that are too large.

    A body is counted as it arrives: nothing behind the limit is read, and a length that says more
    is refused at once. Without a token only names of this machine are answered to, which keeps
    other sites from reaching it by a name of theirs (DNS rebinding).
    """

    def __init__(self, app: App, *, token: str | None, max_bytes: int) -> None:
        self.app, self.token, self.max_bytes = app, token, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        if (refusal := self._refusal(scope["path"], headers)) is not None:
            await _answer(send, *refusal)
            return
        seen, answered = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_bytes:
                raise TooLargeError
            return message

        async def guarded(message: Message) -> None:
            nonlocal answered
            if seen > self.max_bytes:
                raise TooLargeError  # whatever was made of the end of the body
            if message["type"] == "http.response.start":
                answered = True
                own = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        try:
            await self.app(scope, counted, guarded)
        except TooLargeError:
            if not answered:
                await _answer(send, *self._too_large())

    def _refusal(self, path: str, headers: dict[str, str]) -> tuple[int, str, str] | None:
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if self.token is None and host not in LOCAL:
            return 403, "host", f"this server answers to localhost, not to '{host}'"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return 403, "origin", f"requests of pages of {origin} are not answered"
        if self.token is not None and path not in OPEN:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                return 401, "token", "the header 'Authorization: Bearer TOKEN' is absent or wrong"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.max_bytes:
            return self._too_large()
        return None

    def _too_large(self) -> tuple[int, str, str]:
        return 413, "size", f"the request is larger than {self.max_bytes:,} bytes"


async def _answer(send: Send, status: int, code: str, message: str) -> None:
    """An error in the shape of all others, after which the connection is closed: what is left of
    the request is not read.
    """
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    headers += [(b"content-length", str(len(body)).encode())]
    headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
