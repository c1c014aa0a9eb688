"""What each request gets: messages in, messages out. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.artifact.implicit import ImplicitModel
from ranef.errors import LevelError
from ranef.serve.messages import (
    EventsRequest,
    EventsResponse,
    Fallback,
    Id,
    ModelResponse,
    RecommendRequest,
    RecommendResponse,
    Scored,
    ScoreRequest,
    ScoreResponse,
)
from ranef.serve.online import Online, known_items
from ranef.serve.served import Served

FloatArray = npt.NDArray[np.float64]

SOME = 50

_EVENT = msgspec.msgpack.Encoder()


def score(online: Online, request: ScoreRequest) -> ScoreResponse:
    """Scores of items for a user.

    Raises
    ------
    LevelError, DataError, OptionError
    """
    served = online.served
    place, row, fallback = _user(online, request)
    _check_ids(served, request.items)
    places = served.targets.look_up(request.items)
    if min(places) < 0 and (request.new_levels == "raise" or served.unknown_target is None):
        known_items(served, request.items)
    found = served.scores(row, place, places)
    return ScoreResponse(
        served.version,
        request.user,
        place >= 0 and bool(served.towers.known_entities[place]),
        fallback,
        _scored(served, request.items, places, found),
    )


def recommend(online: Online, request: RecommendRequest) -> RecommendResponse:
    """The best items for a user.

    Raises
    ------
    LevelError, DataError, OptionError
    """
    served = online.served
    place, row, fallback = _user(online, request)
    among = None
    if request.among is not None:
        _check_ids(served, request.among)
        among = np.unique([one for one in served.targets.look_up(request.among) if one >= 0]).astype(np.int64)
    _check_ids(served, request.exclude)
    without = np.unique([one for one in served.targets.look_up(request.exclude) if one >= 0]).astype(np.int64)
    places, found = served.best(row, place, request.k, without, among)
    items = [served.targets.values[one] for one in places]
    return RecommendResponse(
        served.version,
        request.user,
        place >= 0 and bool(served.towers.known_entities[place]),
        fallback,
        _scored(served, items, places, found),
    )


def check_events(online: Online, request: EventsRequest) -> list[bytes]:
    """The events as the log has them, if all are right.

    Raises
    ------
    LevelError, DataError, OptionError, FitError
    """
    for event in request.events:
        _check_ids(online.served, [event.item])
        _check_user(online.served, event.user)
    online.check(request.events)
    return [_EVENT.encode(event) for event in request.events]


def events_taken(online: Online, request: EventsRequest, kept: bool) -> EventsResponse:
    """What is said once they are in the log."""
    return EventsResponse(online.served.version, len(request.events), kept)


def about(online: Online) -> ModelResponse:
    """What is served."""
    served = online.served
    model, towers = served.model, served.towers
    implicit = isinstance(model, ImplicitModel)
    return ModelResponse(
        model=served.version,
        formula=model.spec.formula,
        family="implicit" if isinstance(model, ImplicitModel) else model.info.family,
        method="als" if isinstance(model, ImplicitModel) else model.info.method,
        user=towers.entity,
        item=towers.target,
        users=len(towers.entities),
        items=len(towers.targets),
        user_ids="text" if served.entities.kind == "text" else "number",
        item_ids="text" if served.targets.kind == "text" else "number",
        response=None if isinstance(model, ImplicitModel) else model.spec.response_label,
        categories=[] if implicit or isinstance(model, ImplicitModel) else list(model.spec.response_levels),
        events=served.block is not None,
        no_events=served.no_events,
        some_users=served.entities.values[:SOME],
        some_items=served.targets.values[:SOME],
    )


def _user(online: Online, request: ScoreRequest | RecommendRequest) -> tuple[int, FloatArray, Fallback | None]:
    """The place of the user, the vector, and what stands in for an estimate."""
    served, user = online.served, request.user
    _check_user(served, user)
    place = served.entities.places.get(user, -1)
    row, events = online.row(user, place)
    if request.what_if:
        changed = online.supposing(user, request.what_if)
        row, events = changed.row, changed.events
    if place >= 0 and served.towers.known_entities[place]:
        return place, row, None
    if events:
        return place, row, "events"
    if request.new_levels == "raise":
        raise LevelError(f"the model has no {served.towers.entity} {user!r:.80}")
    return place, row, "attributes" if place >= 0 else "population"


def _check_user(served: Served, user: Id) -> None:
    if not served.entities.fits(user):
        raise LevelError(f"{user!r:.80} is no {served.towers.entity}: these are {served.entities.kind}s")


def _check_ids(served: Served, items: Sequence[Id]) -> None:
    for item in items:
        if not served.targets.fits(item):
            raise LevelError(
                f"{item!r:.80} is no {served.towers.target}: these are {served.targets.kind}s in the model"
            )


def _scored(served: Served, items: Sequence[Id], places: Sequence[int], scores: FloatArray) -> list[Scored]:
    known = served.towers.known_targets
    response = served.response(scores)
    whole = np.isfinite(scores)
    return [
        Scored(
            item,
            float(value) if finite else None,
            None if response is None or not finite else response[number],
            place >= 0 and bool(known[place]),
        )
        for number, (item, place, value, finite) in enumerate(
            zip(items, places, scores.tolist(), whole.tolist(), strict=True)
        )
    ]
