"""What events have changed: users' coefficients since the fit, in memory, and the log they can be made again from."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.response import check_trials, response_columns, response_values
from ranef.errors import DataError, FitError, LevelError, OptionError
from ranef.score.level_state import Events, LevelState, absorb
from ranef.score.merged import level_state, partner_spreads, prior_state
from ranef.serve.entity_block import EntityBlock
from ranef.serve.event_log import EventLog
from ranef.serve.messages import Event, Id, Supposed
from ranef.serve.served import Served
from ranef.table import Factor, Levels, Table
from ranef.table.arrow import from_texts

FloatArray = npt.NDArray[np.float64]

# events that are read from the log at once
AT_ONCE = 10_000


@dataclass(eq=False)
class Changed:
    """A user whom events have changed.

    Attributes
    ----------
    state : LevelState
        Of his coefficients.
    row : float64 array, shape (d,)
        His vector.
    events : int
    targets : int64 array
        The targets of these events, ascending.
    """

    state: LevelState
    row: FloatArray
    events: int
    targets: npt.NDArray[np.int64]


class Online:
    """A served model and what events have made of it.

    Parameters
    ----------
    served : Served
    log : EventLog
    """

    def __init__(self, served: Served, log: EventLog):
        self.served, self.log = served, log
        self.seen = 0
        self.passed_over = 0
        self._changed: dict[Id, Changed] = {}
        self._lock = threading.Lock()

    @property
    def changed(self) -> int:
        """Users whom events have changed."""
        return len(self._changed)

    def catch_up(self) -> None:
        """Take in what the log has and this process has not."""
        if self.served.block is None or self.log.last() == self.seen:
            return
        with self._lock:
            while found := self.log.after(self.seen, AT_ONCE):
                for number, data in found:
                    event = msgspec.msgpack.decode(data, type=Event)
                    try:
                        self._changed[event.user] = self.supposing(event.user, [event])
                    except (DataError, FitError, OptionError):
                        # of an item that this model does not have, say: the log outlives a model
                        self.passed_over += 1
                    self.seen = number

    def changed_of(self, user: Id) -> Changed | None:
        """What events have made of a user; None of one that has none."""
        return self._changed.get(user)

    def supposing(self, user: Id, events: Sequence[Event | Supposed]) -> Changed:
        """The user after further events; nothing is kept.

        Raises
        ------
        OptionError
            The model takes no events.
        LevelError
            An item is not known.
        DataError
            The value of one is none that the response can have.
        FitError
        """
        served = self.served
        block = events_block(served)
        place = served.entities.places.get(user, -1)
        changed = self._changed.get(user)
        state = _state(served, block, place) if changed is None else changed.state
        targets = known_items(served, [event.item for event in events])
        y = responses(served, events)
        sides = served.towers.target_side[targets]
        offset = sides @ block.base[place]
        if served.towers.pairs is not None:
            offset += served.towers.pairs.values_of(np.full(len(targets), place), np.array(targets))
        model, weights = _model(served), np.array([event.weight for event in events])
        spread = partner_spreads(model, block.factor, served.towers.target, block.met[targets])
        rows = Events(sides @ block.matrix.T, y, offset, weights, spread)
        state = absorb(state, rows, model.family, _phi(served))
        row = block.base[place] + state.mean @ block.matrix
        if not np.isfinite(row).all():
            raise FitError("these events lead to coefficients that are not finite")
        before = 0 if changed is None else changed.events
        met = np.unique(np.array([*targets, *(() if changed is None else changed.targets.tolist())], np.int64))
        return Changed(state, row, before + len(events), met)

    def check(self, events: Sequence[Event]) -> None:
        """Raise what is wrong with events before they are logged."""
        by_user: dict[Id, list[Event]] = {}
        for event in events:
            by_user.setdefault(event.user, []).append(event)
        for user, own in by_user.items():
            self.supposing(user, own)


def events_block(served: Served) -> EntityBlock:
    """What events change.

    Raises
    ------
    OptionError
        Nothing: the model takes no events.
    """
    if served.block is None:
        raise OptionError(f"this model takes no events: {served.no_events}")
    return served.block


def known_items(served: Served, items: Sequence[Id]) -> list[int]:
    """The places of items that all have to be known.

    Raises
    ------
    LevelError
    """
    places = served.targets.look_up(items)
    unknown = [item for item, place in zip(items, places, strict=True) if place < 0]
    if unknown:
        raise LevelError(f"the model has no {served.towers.target} {_listed(unknown)}", count=len(unknown))
    side = served.towers.target_side[places]
    if not np.isfinite(side).all():
        raise LevelError(f"an attribute of one of these items is missing: {_listed(list(items))}")
    return places


def responses(served: Served, events: Sequence[Event | Supposed]) -> FloatArray:
    """The responses of events as the model's family takes them, shape (events,).

    Raises
    ------
    DataError
    """
    spec = _model(served).spec.response
    columns = response_columns(spec)
    names = sorted(columns.numbers | columns.factors)
    if len(names) != 1:
        raise OptionError(f"the response {spec.label} has several columns, and an event has one value")
    name, values = names[0], [event.value for event in events]
    if columns.numbers:
        if any(isinstance(value, str) for value in values):
            raise DataError(f"{name} takes numbers, and not {next(v for v in values if isinstance(v, str))!r:.80}")
        table = Table(len(values), {name: np.array(values, np.float64)}, {})
    else:
        labels = [_label(value) for value in values]
        distinct = list(dict.fromkeys(labels))
        codes = np.array([distinct.index(label) for label in labels], np.int32)
        table = Table(len(values), {}, {name: Factor(codes, Levels(from_texts(distinct)))})
    y = response_values(spec, table)[0]
    if not np.isfinite(y).all():
        raise DataError(f"a value is none that {spec.label} can be", column=name)
    check_trials(spec, y, np.array([event.weight for event in events]))
    return y


def _label(value: float | bool | str) -> str:
    """A category as its column's levels are written."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else str(value)


def _state(served: Served, block: EntityBlock, place: int) -> LevelState:
    code = int(block.codes[place])
    model = _model(served)
    return prior_state(model, block.factor) if code < 0 else level_state(model, block.factor, code)


def _phi(served: Served) -> FloatArray:
    model = _model(served)
    return np.array([2 * np.log(model.info.sigma)]) if model.spec.kind == "number" else model.phi


def _model(served: Served) -> Model:
    if not isinstance(served.model, Model):
        raise OptionError(f"this model takes no events: {served.no_events}")
    return served.model


def _listed(ids: Sequence[Id]) -> str:
    shown = ", ".join(map(_short, ids[:5]))
    return shown + (f" and {len(ids) - 5:,} more" if len(ids) > 5 else "")


def _short(one: Id) -> str:
    text = repr(one)
    return text if len(text) <= 60 else f"{text[:57]}..."
