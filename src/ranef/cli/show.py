"""``ranef show``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def show(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A saved model.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document in place of the summary.")] = False,
) -> None:
    """Print the summary of a saved model."""
    from ranef.result.document import to_json
    from ranef.result.fit import load

    fitted = load(model)
    print(to_json(fitted) if json else fitted)
