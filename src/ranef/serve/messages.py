"""What goes over HTTP. These types are all that is ever decoded, and the OpenAPI document is made from them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MOST_ITEMS = 10_000
MOST_K = 1_000
MOST_EVENTS = 1_000
LONGEST_ID = 1_000
LARGEST_BODY = 1 << 20

Text = Annotated[str, Meta(max_length=LONGEST_ID, description="An id, as the data of the fit had it.")]
# what JSON's readers agree on, and writers can write
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Id = Text | Whole | float
Items = Annotated[list[Id], Meta(min_length=1, max_length=MOST_ITEMS)]
SomeItems = Annotated[list[Id], Meta(max_length=MOST_ITEMS)]
Number = Annotated[float, Meta(description="Finite.")]
Value = Number | bool | Text
NewLevels = Literal["population", "raise"]
# why there is no estimate of the user's own: an average user, his attributes, or events since the fit
Fallback = Literal["population", "attributes", "events"]


class Supposed(msgspec.Struct, forbid_unknown_fields=True):
    """What if: a response that the user might give. Nothing of it is kept."""

    item: Id
    value: Value
    weight: Annotated[float, Meta(gt=0)] = 1.0


class ScoreRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Scores of items for one user."""

    user: Id
    items: Items
    new_levels: NewLevels = "population"
    what_if: Annotated[list[Supposed], Meta(max_length=MOST_EVENTS)] = []


class RecommendRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The best items for one user: all of the model's, or those in ``among``, without those in ``exclude``."""

    user: Id
    k: Annotated[int, Meta(ge=1, le=MOST_K)] = 10
    exclude: SomeItems = []
    among: Items | None = None
    exclude_seen: Annotated[
        bool,
        Meta(description="Leave out what the user has: the pairs of the fit, if the model keeps them, and events."),
    ] = False
    new_levels: NewLevels = "population"
    what_if: Annotated[list[Supposed], Meta(max_length=MOST_EVENTS)] = []


class ExplainRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Why an item has its score for a user."""

    user: Id
    item: Id
    new_levels: NewLevels = "population"
    what_if: Annotated[list[Supposed], Meta(max_length=MOST_EVENTS)] = []


class Event(msgspec.Struct, forbid_unknown_fields=True):
    """A user's response to an item: a rating, 0 or 1, a count, a category, as the data of the fit had it.

    ``weight`` is the prior weight of the fit; of a proportion its trials.
    """

    user: Id
    item: Id
    value: Value
    weight: Annotated[float, Meta(gt=0)] = 1.0


class EventsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Responses since the fit: all are taken, or none."""

    events: Annotated[list[Event], Meta(min_length=1, max_length=MOST_EVENTS)]


class Scored(msgspec.Struct):
    """An item's score on the scale of the linear predictor, and the expected response; of categories probabilities."""

    item: Id
    score: float | None
    response: float | list[float] | None
    known_item: bool


class ScoreResponse(msgspec.Struct):
    """In the order of the request."""

    model: str
    user: Id
    known_user: bool
    fallback: Fallback | None
    items: list[Scored]


class RecommendResponse(msgspec.Struct):
    """Best first; fewer than ``k`` where there are not as many."""

    model: str
    user: Id
    known_user: bool
    fallback: Fallback | None
    items: list[Scored]


class Part(msgspec.Struct):
    """An addend of a score on the scale of the linear predictor.

    ``kind`` is fixed, random, latent or offset; ``group`` the grouping factor or the latent term, ``level`` its level,
    ``name`` the coefficient or the axis. ``addend`` is ``covariate`` times ``coefficient``, where there are any. ``n``
    rows of the fit, and of the user's events, are behind it; ``shrinkage`` is 0 where they alone speak and 1 where
    the population does.
    """

    kind: str
    group: str
    level: str
    name: str
    covariate: float | None
    coefficient: float | None
    addend: float
    n: int | None
    shrinkage: float | None


class Past(msgspec.Struct):
    """An item that the user has, and its share of the factor part."""

    item: Id
    addend: float


class ExplainResponse(msgspec.Struct):
    """The addends sum to the score."""

    model: str
    user: Id
    known_user: bool
    fallback: Fallback | None
    item: Id
    known_item: bool
    score: float
    response: float | list[float] | None
    addends: list[Part]
    past: list[Past]


class EventsResponse(msgspec.Struct):
    """How many events are in, and whether they are on a disk by now."""

    model: str
    accepted: int
    kept: bool


class ModelResponse(msgspec.Struct):
    """What is served."""

    model: str
    formula: str
    family: str
    method: str
    user: str
    item: str
    users: int
    items: int
    user_ids: Literal["number", "text"]
    item_ids: Literal["number", "text"]
    response: str | None
    categories: list[str]
    events: bool
    no_events: str
    seen: bool
    some_users: list[Id]
    some_items: list[Id]


class ErrorResponse(msgspec.Struct):
    """What was wrong, where, and what to do."""

    error: str
