"""The OpenAPI document, from the types of the messages."""

from __future__ import annotations

from typing import Any

import msgspec

from ranef.serve.messages import (
    ErrorResponse,
    EventsRequest,
    EventsResponse,
    ExplainRequest,
    ExplainResponse,
    ModelResponse,
    RecommendRequest,
    RecommendResponse,
    ScoreRequest,
    ScoreResponse,
)

_POSTS: dict[str, tuple[type[msgspec.Struct], type[msgspec.Struct], str]] = {
    "/v1/score": (ScoreRequest, ScoreResponse, "Scores of items for a user"),
    "/v1/recommend": (RecommendRequest, RecommendResponse, "The best items for a user"),
    "/v1/explain": (ExplainRequest, ExplainResponse, "Why an item has its score for a user"),
    "/v1/events": (EventsRequest, EventsResponse, "New responses of users, which change what they are recommended"),
}
_ERRORS = {
    "400": "The body is no JSON",
    "401": "The token is missing or wrong",
    "408": "The body was not there in time",
    "413": "The body is too large",
    "415": "The body is not declared as JSON",
    "422": "The body has another content than it must; or an id is not known and was to be",
    "503": "The store cannot be reached",
}


def document(secured: bool) -> dict[str, Any]:
    """The description of the service.

    Parameters
    ----------
    secured : bool
        Whether it asks for a token.
    """
    from ranef import __version__

    types = [one for post in _POSTS.values() for one in post[:2]]
    refs, components = msgspec.json.schema_components(
        [*types, ModelResponse, ErrorResponse], ref_template="#/components/schemas/{name}"
    )
    ref = dict(zip([*types, ModelResponse, ErrorResponse], refs, strict=True))
    errors = {
        status: {"description": text, "content": {"application/json": {"schema": ref[ErrorResponse]}}}
        for status, text in _ERRORS.items()
        if secured or status != "401"
    }
    paths: dict[str, Any] = {
        path: {
            "post": {
                "operationId": path.rpartition("/")[2],
                "summary": summary,
                "description": request.__doc__,
                "requestBody": {"required": True, "content": {"application/json": {"schema": ref[request]}}},
                "responses": {"200": _answer(response.__doc__ or summary, ref[response]), **errors},
            }
        }
        for path, (request, response, summary) in _POSTS.items()
    }
    status = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
    refused = {"401": errors["401"]} if secured else {}
    model = {"200": _answer(ModelResponse.__doc__ or "", ref[ModelResponse]), **refused}
    text = {"200": {"description": "Text", "content": {"text/plain": {"schema": {"type": "string"}}}}, **refused}
    paths["/v1/model"] = _get("model", "What is served", model)
    paths["/healthz"] = _get("healthz", "Whether the process lives", {"200": _answer("It does", status)})
    ready = {"200": _answer("It does", status), "503": _answer("It is about to end", status)}
    paths["/readyz"] = _get("readyz", "Whether it takes requests", ready)
    paths["/metrics"] = _get("metrics", "Counts and times, for Prometheus", text)
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "ranef serve", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": components},
    }
    if secured:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in paths.items():
            if path not in ("/healthz", "/readyz"):
                for operation in operations.values():
                    operation["security"] = [{"token": []}]
    return found


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _get(name: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"operationId": name, "summary": summary, "responses": responses}}
