"""Whether kernels are being compiled: what makes the first fit on a machine take seconds more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from numba.core import event


class _First(event.Listener):  # type: ignore[misc]  # Numba has no types
    """Calls a function when the compiler starts for the first time; what is loaded from its cache starts none."""

    def __init__(self, tell: Callable[[], None]):
        self._tell: Callable[[], None] | None = tell

    def on_start(self, event: event.Event) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            tell()

    def on_end(self, event: event.Event) -> None:
        pass


@contextmanager
def telling_of_compilation(tell: Callable[[], None] | None) -> Iterator[None]:
    """Call ``tell`` once if a kernel is compiled within; None for silence."""
    if tell is None:
        yield
        return
    with event.install_listener("numba:compile", _First(tell)):
        yield
