"""What each request gets: messages in, messages out. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.artifact.implicit import ImplicitModel
from ranef.errors import LevelError
from ranef.score.explain import Addend
from ranef.serve.explained import explained
from ranef.serve.messages import (
    EventsRequest,
    EventsResponse,
    ExplainRequest,
    ExplainResponse,
    Fallback,
    Id,
    ModelResponse,
    Part,
    Past,
    RecommendRequest,
    RecommendResponse,
    Scored,
    ScoreRequest,
    ScoreResponse,
)
from ranef.serve.online import Changed, Online, known_items
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
    user = _user(online, request)
    _check_ids(served, request.items)
    places = served.targets.look_up(request.items)
    if min(places) < 0 and (request.new_levels == "raise" or served.unknown_target is None):
        known_items(served, request.items)
    found = served.scores(user.row, user.place, places)
    return ScoreResponse(
        served.version,
        request.user,
        user.known,
        user.fallback,
        _scored(served, request.items, places, found),
    )


def recommend(online: Online, request: RecommendRequest) -> RecommendResponse:
    """The best items for a user.

    Raises
    ------
    LevelError, DataError, OptionError
    """
    served = online.served
    user = _user(online, request)
    among = None
    if request.among is not None:
        _check_ids(served, request.among)
        among = np.unique([one for one in served.targets.look_up(request.among) if one >= 0]).astype(np.int64)
    _check_ids(served, request.exclude)
    without = np.unique([one for one in served.targets.look_up(request.exclude) if one >= 0]).astype(np.int64)
    if request.exclude_seen:
        without = np.union1d(without, _seen(served, user))
    places, found = served.best(user.row, user.place, request.k, without, among)
    items = [served.targets.values[one] for one in places]
    return RecommendResponse(
        served.version,
        request.user,
        user.known,
        user.fallback,
        _scored(served, items, places, found),
    )


def explain(online: Online, request: ExplainRequest) -> ExplainResponse:
    """Why an item has its score for a user.

    Raises
    ------
    LevelError, DataError, OptionError
    """
    served = online.served
    user = _user(online, request)
    _check_ids(served, [request.item])
    place = served.targets.places.get(request.item, -1)
    if place < 0 and request.new_levels == "raise":
        known_items(served, [request.item])
    found = explained(served, request.user, request.item, user.changed)
    scored = _scored(served, [request.item], [place], np.array([found.score]))[0]
    return ExplainResponse(
        served.version,
        request.user,
        user.known,
        user.fallback,
        request.item,
        scored.known_item,
        found.score,
        scored.response,
        [_part(one) for one in found.addends if one.kind in ("offset", "latent") or one.covariate[0] != 0],
        [Past(item, share) for item, share in found.past],
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
        seen=served.seen is not None,
        some_users=served.entities.values[:SOME],
        some_items=served.targets.values[:SOME],
    )


@dataclass(frozen=True, eq=False)
class _User:
    """The place of a user, the vector, what events have changed, and what stands in for an estimate."""

    place: int
    row: FloatArray
    changed: Changed | None
    known: bool
    fallback: Fallback | None


def _user(online: Online, request: ScoreRequest | RecommendRequest | ExplainRequest) -> _User:
    served, user = online.served, request.user
    _check_user(served, user)
    place = served.entities.places.get(user, -1)
    known = place >= 0 and bool(served.towers.known_entities[place])
    changed = online.supposing(user, request.what_if) if request.what_if else online.changed_of(user)
    fallback: Fallback | None = None
    if not known and changed is not None:
        fallback = "events"
    elif not known:
        if request.new_levels == "raise":
            raise LevelError(f"the model has no {served.towers.entity} {user!r:.80}")
        fallback = "attributes" if place >= 0 else "population"
    return _User(place, served.row(place) if changed is None else changed.row, changed, known, fallback)


def _seen(served: Served, user: _User) -> npt.NDArray[np.int64]:
    """What the user has, by all that is known."""
    own = served.seen_by(user.place)
    return own if user.changed is None else np.union1d(own, user.changed.targets)


def _part(one: Addend) -> Part:
    return Part(
        one.kind,
        one.group,
        str(one.level[0]),
        one.name,
        _or_none(one.covariate[0]),
        _or_none(one.coefficient[0]),
        float(one.addend[0]),
        int(one.count[0]) if one.count[0] >= 0 else None,
        _or_none(one.shrinkage[0]),
    )


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


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
