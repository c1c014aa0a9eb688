"""Words of a command line that can be pasted into a shell."""

from __future__ import annotations

import shlex


def quoted(formula: str) -> str:
    """The formula in double quotes, as the help writes it, or in single ones where a shell would look into those."""
    return shlex.quote(formula) if any(sign in formula for sign in '`$"\\!') else f'"{formula}"'
