"""The pages for people: HTML files that need nothing from anywhere else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

_FOLDER = Path(__file__).parent / "page"


def page(name: str) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that gives a page; the browser runs its own script, and talks to this service, alone."""
    text = (_FOLDER / name).read_text(encoding="utf-8")
    allowed = {
        kind: " ".join(f"'sha256-{_digest(part)}'" for part in re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL))
        for kind in ("script", "style")
    }
    policy = (
        f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"content-security-policy": policy, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}

    async def endpoint(request: Request) -> Response:
        return Response(text, media_type="text/html; charset=utf-8", headers=headers)

    return endpoint


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
