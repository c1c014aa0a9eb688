"""The HTTP service as an ASGI application: bodies to messages, messages to bodies, errors to statuses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ranef.errors import RanefError, StoreError
from ranef.serve import handlers
from ranef.serve.messages import (
    LARGEST_BODY,
    ErrorResponse,
    EventsRequest,
    ExplainRequest,
    ExplainResponse,
    RecommendRequest,
    RecommendResponse,
    ScoreRequest,
    ScoreResponse,
)
from ranef.serve.openapi import document
from ranef.serve.pages import page
from ranef.serve.service import Service
from ranef.serve.settings import Settings, is_token

log = logging.getLogger("ranef.serve")

Answer = TypeVar("Answer", ScoreResponse, RecommendResponse, ExplainResponse)
Work = Callable[[Service, Any], Awaitable[msgspec.Struct]]

_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")


class _Refused(Exception):
    """A request that is answered by an error."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Post:
    """An endpoint that takes a message and gives one."""

    def __init__(self, service: Service, path: str, message: type[msgspec.Struct], work: Work):
        self.service, self.path, self.work = service, path, work
        self.decode = msgspec.json.Decoder(message).decode
        self.seconds = service.metrics.seconds.labels(path)
        self.fine = service.metrics.requests.labels(path, "200")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begun = time.perf_counter()
        try:
            body = await _body(scope, receive, self.service.settings.seconds)
            begun = time.perf_counter()
            status, answer = 200, _encode(await self.work(self.service, self._message(body)))
            self.fine.inc()
        except _Refused as error:
            status, answer = error.status, _error(str(error))
        except StoreError as error:
            log.error("%s: %s", self.path, error)
            status, answer = 503, _error(str(error))
        except RanefError as error:
            status, answer = 422, _error(str(error))
        except Exception:
            log.exception("%s failed", self.path)
            status, answer = 500, _error("the service failed; its log says where")
        if status != 200:
            self.service.metrics.requests.labels(self.path, str(status)).inc()
        self.seconds.observe(time.perf_counter() - begun)
        await _send(send, status, answer)

    def _message(self, body: bytes) -> msgspec.Struct:
        try:
            return self.decode(body)
        except msgspec.ValidationError as error:
            raise _Refused(422, f"{error}; /openapi.json says what this takes") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _Refused(400, f"the body is no JSON: {error}") from None


async def _body(scope: Scope, receive: Receive, seconds: float) -> bytes:
    """The whole body, if it is JSON, small enough, and there in time."""
    headers = dict(scope["headers"])
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    # what a page of another origin can send without asking is none of this
    if kind != b"application/json":
        raise _Refused(415, "the body must be JSON: send the header Content-Type: application/json")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 12 or int(length) > LARGEST_BODY:
        raise _Refused(413, f"the body is larger than {LARGEST_BODY:,} bytes: send less at once")
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Refused(400, "the client has left")
                piece = message.get("body", b"")
                size += len(piece)
                if size > LARGEST_BODY:
                    raise _Refused(413, f"the body is larger than {LARGEST_BODY:,} bytes: send less at once")
                pieces.append(piece)
                if not message.get("more_body", False):
                    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    except TimeoutError:
        raise _Refused(408, f"the body was not there after {seconds:g} seconds") from None


async def _send(send: Send, status: int, body: bytes) -> None:
    headers = [_JSON, (b"content-length", str(len(body)).encode())]
    if status in (408, 413):
        # the rest of the body is not read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _error(text: str) -> bytes:
    return _encode(ErrorResponse(text))


async def _score(service: Service, request: ScoreRequest) -> ScoreResponse:
    return _counted(service, handlers.score(service.online_now(), request))


async def _recommend(service: Service, request: RecommendRequest) -> RecommendResponse:
    return _counted(service, handlers.recommend(service.online_now(), request))


async def _explain(service: Service, request: ExplainRequest) -> ExplainResponse:
    return _counted(service, handlers.explain(service.online_now(), request))


async def _events(service: Service, request: EventsRequest) -> msgspec.Struct:
    events = handlers.check_events(service.online_now(), request)
    # they are on the disk before anybody is told so
    await asyncio.to_thread(service.log.append, events)
    # a new model may have come meanwhile
    online = service.online
    online.catch_up()
    service.metrics.events.inc(len(events))
    service.metrics.changed.set(online.changed)
    return handlers.events_taken(online, request, service.log.lasts and service.settings.lasting)


def _counted(service: Service, answer: Answer) -> Answer:
    if answer.fallback is not None:
        service.metrics.fallbacks.labels(answer.fallback).inc()
    return answer


class Guard:
    """Asks for the token wherever there is something to learn."""

    OPEN = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz"})

    def __init__(self, app: ASGIApp, digest: bytes | None):
        self.app, self.digest = app, digest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or not."""
        if self.digest is not None and scope["type"] == "http" and scope["path"] not in self.OPEN:
            given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            if not is_token(given, self.digest):
                body = _error("give the token: Authorization: Bearer TOKEN")
                headers = [_JSON, (b"content-length", str(len(body)).encode()), (b"www-authenticate", b"Bearer")]
                await send({"type": "http.response.start", "status": 401, "headers": headers})
                await send({"type": "http.response.body", "body": body})
                return
        await self.app(scope, receive, send)


def make_app(service: Service) -> ASGIApp:
    """The application around a service."""

    def json(status: int, body: bytes) -> Response:
        return Response(body, status, media_type="application/json")

    async def model(request: Request) -> Response:
        return json(200, _encode(handlers.about(service.online_now())))

    async def healthy(request: Request) -> Response:
        return json(200, b'{"status":"alive"}')

    async def ready(request: Request) -> Response:
        if service.stopping:
            return json(503, b'{"status":"stopping"}')
        return json(200, _encode({"status": "ready", "model": service.online.served.version}))

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    async def openapi(request: Request) -> Response:
        return json(200, _encode(document(service.token is not None)))

    async def refused(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        about = {404: f"there is nothing at {request.url.path[:200]}", 405: "another method is wanted"}
        response = json(status, _error(about.get(status, "the request cannot be answered") + "; see /docs"))
        if isinstance(error, HTTPException) and error.headers:
            response.headers.update(error.headers)
        return response

    def post(path: str, message: type[msgspec.Struct], work: Work) -> Route:
        return Route(path, Post(service, path, message, work), methods=["POST"])

    app = Starlette(
        routes=[
            post("/v1/score", ScoreRequest, _score),
            post("/v1/recommend", RecommendRequest, _recommend),
            post("/v1/explain", ExplainRequest, _explain),
            post("/v1/events", EventsRequest, _events),
            Route("/v1/model", model),
            Route("/healthz", healthy),
            Route("/readyz", ready),
            Route("/metrics", metrics),
            Route("/openapi.json", openapi),
            Route("/docs", page("docs.html")),
            Route("/", page("index.html")),
        ],
        exception_handlers={HTTPException: refused},
        lifespan=service.lifespan,
    )
    return Guard(app, service.token)


def worker() -> ASGIApp:
    """The application of a worker process, by the settings in its environment."""
    return make_app(Service(Settings.from_environment()))
