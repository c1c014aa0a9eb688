"""The command line: parses, calls the library, prints. ``ranef --help`` says what there is."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``ranef`` with ``arguments``, by default those of the process.

    Returns
    -------
    int
        The exit code: 0 done, also where a fit did not converge; 1 bad data or a failed fit; 2 a bad formula, column,
        option or file; 130 interrupted.
    """
    try:
        from ranef.cli.guard import run
    except KeyboardInterrupt:
        # what the command line itself imports takes some tenths of a second
        sys.stderr.write("interrupted\n")
        return 130
    return run(arguments)
