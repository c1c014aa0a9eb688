"""Requests made from the OpenAPI document: answers are those it promises, and never a 500."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import ranef
from ranef.serve.app import make_app
from ranef.serve.service import Service
from ranef.serve.settings import Settings

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
from schemathesis import checks  # noqa: E402
from schemathesis.specs.openapi import checks as openapi_checks  # noqa: E402

POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
WANTED = (
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Any:
    rng = np.random.default_rng(1)
    user, item = rng.integers(0, 10, 200), rng.integers(0, 10, 200)
    y = rng.normal(size=10)[user] + rng.normal(size=10)[item] + rng.normal(size=200)
    path: Path = tmp_path_factory.mktemp("models") / "model"
    ranef.fit("y ~ 1 + (1 | user) + (1 | item)", {"y": y, "user": user, "item": item}).save(path)
    return schemathesis.openapi.from_asgi("/openapi.json", make_app(Service(Settings(str(path)))))


def try_all(schema: Any, examples: int) -> None:
    """Requests to every operation of the document, right ones and wrong ones."""
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=POSITIVE) | operation.as_strategy(generation_mode=NEGATIVE))
        def answered(case: Any) -> None:
            case.call_and_validate(checks=WANTED)

        answered()
        tried += 1
    assert tried >= 8


def test_every_operation(schema: Any) -> None:
    try_all(schema, 20)


@pytest.mark.long
def test_every_operation_at_length(schema: Any) -> None:
    try_all(schema, 2_000)
