"""What a service is told when it starts; its worker processes read the same."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import msgspec

from ranef.errors import OptionError

VARIABLE = "RANEF_SERVE"
SHORTEST_TOKEN = 16


class Settings(msgspec.Struct, frozen=True):
    """Settings of a service.

    Attributes
    ----------
    model : str
        The model's directory.
    store : str or None
        Where events are kept.
    lasting : bool
        Whether the store outlives the service.
    token_file : str or None
        Of the bearer token.
    entity, target : str or None
        The columns of users and items, where the model has several.
    poll : float
        Seconds between two looks at the model's directory.
    seconds : float
        To wait for the body of a request.
    """

    model: str
    store: str | None = None
    lasting: bool = True
    token_file: str | None = None
    entity: str | None = None
    target: str | None = None
    poll: float = 1.0
    seconds: float = 10.0

    def to_environment(self) -> None:
        """Leave the settings to the processes that this one starts."""
        os.environ[VARIABLE] = msgspec.json.encode(self).decode()

    @classmethod
    def from_environment(cls) -> Settings:
        """The settings that the process was started with."""
        return msgspec.json.decode(os.environ.get(VARIABLE, "{}"), type=cls)


def read_token(file: str | None) -> bytes | None:
    """The SHA-256 of the token in a file; None without a file.

    Raises
    ------
    OptionError
        It cannot be read, or has no token worth the name.
    """
    if file is None:
        return None
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"token_file={file}: it cannot be read ({error})") from error
    if len(token) < SHORTEST_TOKEN or not token.isascii() or any(sign.isspace() for sign in token):
        raise OptionError(
            f"token_file={file}: a token is one word of {SHORTEST_TOKEN} ASCII characters or more; such as: "
            "openssl rand -hex 32"
        )
    return hashlib.sha256(token.encode()).digest()


def is_token(header: bytes, digest: bytes) -> bool:
    """Whether an ``Authorization`` header has the token; takes as long whatever it has."""
    scheme, _, given = header.partition(b" ")
    same = hmac.compare_digest(hashlib.sha256(given.strip()).digest(), digest)
    return same and scheme.lower() == b"bearer"
