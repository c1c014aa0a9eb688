"""Why a fit recommends what it recommends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from ranef.artifact.implicit import ImplicitModel
from ranef.artifact.seen import Counts
from ranef.design.build import Design
from ranef.errors import OptionError
from ranef.result.kept_rows import counts_of_rows
from ranef.result.options import check_whole
from ranef.result.recommend import Recommendations, values_of
from ranef.score.explain import Addend, explain_implicit, explain_rows, past_shares
from ranef.score.lists import pair_lists
from ranef.score.pair import choose_pair
from ranef.score.rows import match
from ranef.score.sides import columns_of_pairs
from ranef.score.tower_vectors import field_vectors
from ranef.table import UNKNOWN, FloatArray, Levels, from_numpy, open_source, read_table
from ranef.table.encode import look_up

if TYPE_CHECKING:
    from ranef.artifact.model import Model


@dataclass(frozen=True, eq=False)
class Explanation:
    """One score and what it is made of.

    Attributes
    ----------
    score : float
        On the link scale.
    addends : table
        ``kind`` (offset, fixed, random, latent), ``group``, ``level``, ``name``, ``covariate``, ``coefficient``,
        ``addend`` (these sum to the score), ``n`` (rows of the fit behind the coefficient; -1 where the model does not
        know) and ``shrinkage`` (0: of the level's own rows, 1: of the population).
    past : table
        The user's own items that carry most of the part of the vectors: the item's column and ``addend``. Empty where
        the model does not know what the user has.
    """

    score: float
    addends: Any
    past: Any


class Explanations(Recommendations):
    """What `Fit` says of single scores."""

    def explain(
        self,
        user: Any,
        item: Any = None,
        *,
        past: int = 5,
        tables: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        entity: str | None = None,
        target: str | None = None,
    ) -> Any:
        """The addends of a score on the link scale, which sum to it: offset, fixed effects, random effects and axes of
        latent terms.

        Parameters
        ----------
        user, item : value
            Of the two factors; or, alone, any data that `predict` takes.
        past : int
            How many of the user's own items to show beside a single score.
        tables, context, entity, target
            As of `recommend`; of data, only ``tables``.

        Returns
        -------
        Explanation or table
            Of data the addends, with ``row`` before the other columns.

        Raises
        ------
        OptionError, LevelError, DataError
        """
        check_whole("past", past, 0)
        if item is None:
            if context is not None or entity is not None or target is not None:
                raise OptionError("explain(table) reads every column from the table: leave out context, entity, target")
            source = open_source(user)
            addends = self._addends_of(source, tables)
            return self._table(addend_columns(addends, with_rows=True))
        model = cast("Model | ImplicitModel", self.model)
        names = choose_pair(model, entity, target, tables or ())
        pair = {name: values_of(name, value) for name, value in zip(names, (user, item), strict=True)}
        for name, value in pair.items():
            if len(value) != 1 or value.null_count:
                raise OptionError(f"explain() takes one {name!r} and one other; for many give a table")
        if isinstance(model, ImplicitModel):
            addends = self._addends_of(open_source(pair), tables)
        else:
            columns = columns_of_pairs(model, *names, tables, context)
            own = {name: pa.array([value]) for name, value in (context or {}).items()}
            own_model = replace(model, attributes=columns.attributes, counts=self._counts())
            addends = explain_rows(own_model, open_source({**pair, **own}))
        score = float(sum(one.addend[0] for one in addends))
        return Explanation(
            score,
            self._table(addend_columns(addends)),
            self._table(self._past(names, pair, past)),
        )

    def _addends_of(self, source: Any, tables: Mapping[str, Any] | None) -> list[Addend]:
        model = cast("Model | ImplicitModel", self.model)
        if isinstance(model, ImplicitModel):
            spec = model.spec
            table = read_table(source, numbers=(), factors=sorted({spec.user, spec.item}))
            users = match(spec.user, table.factors[spec.user], model.users)
            items = match(spec.item, table.factors[spec.item], model.items)
            kept = replace(model, seen=self._seen_to_keep(self._design is not None))
            return explain_implicit(kept, users, items)
        return explain_rows(replace(model, counts=self._counts()), source, tables)

    def _counts(self) -> Counts | None:
        """Rows of the fit behind each level, where the fit or the model knows them."""
        return counts_of_rows(self._design) if isinstance(self._design, Design) else self.model.counts

    def _past(self, names: tuple[str, str], pair: Mapping[str, pa.Array], count: int) -> dict[str, Any]:
        """The past items of one user that carry most of the factor part."""
        entity, target = names
        found = None if count == 0 else self._vectors_of_pair(entity, target)
        seen = None if found is None else self._known_pairs(entity, target)
        if found is None or seen is None:
            return {target: pair[target].slice(0, 0), "addend": np.zeros(0)}
        (entities, own), (targets, other) = found
        who = int(look_up(entity, Levels(pair[entity]), entities)[0])
        what = int(look_up(target, Levels(pair[target]), targets)[0])
        lists = pair_lists((entity, seen[0]), (target, seen[1]), Levels(pair[entity]), targets)
        places = lists[1]
        places = places[places != what]
        if who == UNKNOWN or what == UNKNOWN or not len(places):
            return {target: targets.values.slice(0, 0), "addend": np.zeros(0)}
        shares = past_shares(own[who], other[what], other[places])
        most = np.argsort(-np.abs(shares), kind="stable")[:count]
        return {target: targets.values.take(from_numpy(places[most])), "addend": shares[most]}

    def _vectors_of_pair(
        self, entity: str, target: str
    ) -> tuple[tuple[Levels, FloatArray], tuple[Levels, FloatArray]] | None:
        """Vectors of both factors in the first latent term that has both; None without."""
        model = cast("Model | ImplicitModel", self.model)
        if isinstance(model, ImplicitModel):
            both = {
                model.spec.user: (model.users, model.user_vectors.astype(np.float64)),
                model.spec.item: (model.items, model.item_vectors.astype(np.float64)),
            }
            return both[entity], both[target]
        return field_vectors(model, entity, target)


def addend_columns(addends: Sequence[Addend], with_rows: bool = False) -> dict[str, Any]:
    """The columns of a table of addends, row after row; without fixed and random effects whose covariate is zero."""
    rows = len(addends[0].addend) if addends else 0
    kept = [np.ones(rows, np.bool_) if one.kind in ("offset", "latent") else one.covariate != 0 for one in addends]
    places = [(row, a) for row in range(rows) for a, some in enumerate(kept) if some[row]]
    of_row = {"row": np.array([row for row, _ in places], np.int64)} if with_rows else {}

    def numbers(name: str) -> Any:
        return np.array([getattr(addends[a], name)[row] for row, a in places])

    return {
        **of_row,
        "kind": [addends[a].kind for _, a in places],
        "group": [addends[a].group for _, a in places],
        "level": [addends[a].level[row] for row, a in places],
        "name": [addends[a].name for _, a in places],
        "covariate": numbers("covariate"),
        "coefficient": numbers("coefficient"),
        "addend": numbers("addend"),
        "n": numbers("count").astype(np.int64),
        "shrinkage": numbers("shrinkage"),
    }
