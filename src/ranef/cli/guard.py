"""What ends a command: errors, warnings and interrupts as one line each on stderr, and the exit code."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, cast

import typer

from ranef.cli.words import in_flags
from ranef.errors import FormulaError, LevelError, ModelFileError, OptionError, RanefError, RanefWarning, StoreError

P = ParamSpec("P")

# click's class of errors; some releases of typer carry a click of their own, so it is reached through typer
_UseError = cast(type[Exception], typer.BadParameter.__mro__[2])

BAD_DATA, BAD_USE, INTERRUPTED = 1, 2, 130


def run(arguments: Sequence[str] | None) -> int:
    """Parse ``arguments`` and run the command; return the exit code."""
    try:
        from ranef.cli.app import app

        result = app(args=None if arguments is None else list(arguments), prog_name="ranef", standalone_mode=False)
        sys.stdout.flush()
        # typer says nothing if it is interrupted before a command begins
        if result == INTERRUPTED:
            return _say("interrupted", INTERRUPTED)
        return result if isinstance(result, int) else 0
    except (typer.Abort, KeyboardInterrupt):
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:
        return _close_stdout()
    except _UseError as error:
        return _say_use(error)


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """The command with every error as a line on stderr and an exit code; warnings too become lines."""
    options = [p.name for p in inspect.signature(command).parameters.values() if p.default is not p.empty]

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with _warnings_as_lines(options):
                command(*args, **kwargs)
                sys.stdout.flush()
        except KeyboardInterrupt:
            raise typer.Abort from None
        except BrokenPipeError:
            code = _close_stdout()
        except (FormulaError, ModelFileError, StoreError) as error:
            code = _say(f"error: {error}", BAD_USE)
        except OptionError as error:
            code = _say(f"error: {in_flags(str(error), options)}", BAD_USE)
        except LevelError as error:
            code = _say(f"error: {in_flags(str(error), options)}", BAD_DATA)
        except RanefError as error:
            code = _say(f"error: {error}", BAD_DATA)
        except MemoryError:
            code = _say("error: not enough memory for this model and these data", BAD_DATA)
        except OSError as error:
            code = _say(f"error: {error}", BAD_USE)
        except _UseError:
            raise
        except Exception as error:
            if os.environ.get("RANEF_DEBUG") == "1":
                traceback.print_exc()
            text = f"error: unexpected {type(error).__name__}: {error}; please report it, with what RANEF_DEBUG=1 shows"
            code = _say(text, BAD_DATA)
        else:
            return
        raise typer.Exit(code)

    return wrapper


def note(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _say(text: str, code: int) -> int:
    note(text)
    return code


def _say_use(error: Exception) -> int:
    """What is wrong with the words of the command line, and where to look."""
    message = getattr(error, "format_message", error.__str__)()
    context = getattr(error, "ctx", None)
    hint = "" if context is None else f"\ntry: {context.command_path} --help"
    return _say(f"error: {message}{hint}", BAD_USE)


def _close_stdout() -> int:
    """Whoever read stdout has left, which is no error; Python must not flush into the closed pipe when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


@contextmanager
def _warnings_as_lines(options: Sequence[str]) -> Iterator[None]:
    def show(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
        note(f"warning: {in_flags(str(message), options)}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", RanefWarning)
        warnings.showwarning = show
        yield
