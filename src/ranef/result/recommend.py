"""What a fit recommends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.artifact.implicit import ImplicitModel
from ranef.artifact.seen import Seen
from ranef.design.build import Design
from ranef.design.pairs import PairsDesign
from ranef.errors import OptionError, UnknownLevelWarning, counted
from ranef.result.kept_rows import column_factor, factors_of_seen, seen_of
from ranef.result.options import check_whole, choice
from ranef.result.vectors import Vectors
from ranef.result.warn import warn
from ranef.score.compress import compress
from ranef.score.explore import drawn_model, upper_ranked
from ranef.score.lists import pair_lists, take_lists
from ranef.score.pair import choose_pair
from ranef.score.recommend import ranked
from ranef.score.topk import Lists, TargetIndex, index_targets
from ranef.score.towers import Towers, compile_towers
from ranef.table import UNKNOWN, CodeArray, Factor, Levels, from_numpy, open_source, read_table
from ranef.table.encode import encode_batch, look_up
from ranef.table.kinds import kind_of

if TYPE_CHECKING:
    from ranef.artifact.model import FloatArray, Model

# entities whose recommendations are found together
ENTITIES = 1 << 15


class Recommendations(Vectors):
    """What `Fit` recommends: scores are linear predictors, as of ``predict(..., type="link")``."""

    _compiled: tuple[Any, Towers, TargetIndex] | None = None
    _design: Design | None
    _data: Any

    def recommend(
        self,
        users: Any = None,
        k: int = 10,
        *,
        among: Any = None,
        deny: Any = None,
        exclude: Any = None,
        tables: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        entity: str | None = None,
        target: str | None = None,
        explore: Literal["thompson", "ucb"] | None = None,
        seed: int = 0,
        level: float = 0.95,
        error: float | None = None,
        threads: int | None = None,
    ) -> Any:
        """The items with the highest scores for each user: user, rank, item, score, and whether the fit had each.

        Exact: every item of the fit is compared. Equal scores stand in the order of the items' levels.

        Parameters
        ----------
        users : value or array_like, optional
            In their own type. Default: all users of the fit. A user that the fit did not have gets what his attributes
            in ``tables`` say, or what the average user gets.
        k : int
            Items a user; fewer where fewer can be listed.
        among : array_like, optional
            The only items that may be listed. Default: all of the fit, and of the table of their attributes.
        deny : array_like, optional
            Items that may not.
        exclude : any data that `ranef.fit` takes, or "seen", optional
            Pairs that are not to be recommended, such as those that the users have already; ``"seen"`` are the pairs
            that the model was fitted on.
        tables : mapping of str to table, optional
            Attributes of users or items by key, as of `ranef.fit`: of new ones, or where the fit read them from its
            rows.
        context : mapping of str to value, optional
            Values of columns that belong to neither user nor item: ``{"hour": 8}``.
        entity, target : str, optional
            The columns of what gets recommendations and of what is recommended, where the model has more than two
            factors, or the other way round.
        explore : {"thompson", "ucb"}, optional
            Rank by scores of one draw from the posterior, the same for all users, or by the upper limits of intervals
            for the linear predictor: what little is known of comes up more often. Intervals are computed for every item
            of every user, which takes a second or so a user. Of Gaussian models these know how much levels vary that
            the fit did not have; draws take these for the average level.
        seed : int
            Of the draw.
        level : float
            Of the intervals, between 0 and 1.
        error : float, optional
            Scores may be off by this much, root mean square over all pairs: a Bayesian fit with latent terms, whose
            vectors are those of every draw, is compressed to that by a singular value decomposition. Default: not at
            all.
        threads : int, optional
            Default: all cores.

        Returns
        -------
        table
            The entity's column, ``rank`` from 1, the target's column, ``score``, and ``known_`` with each of the two
            names: false where only attributes or the average speak.

        Raises
        ------
        OptionError
            The model cannot recommend, and why; an option is wrong.
        LevelError, DataError
        """
        parts = list(
            self.recommendation_parts(
                users,
                k,
                among=among,
                deny=deny,
                exclude=exclude,
                tables=tables,
                context=context,
                entity=entity,
                target=target,
                explore=explore,
                seed=seed,
                level=level,
                error=error,
                threads=threads,
            )
        )
        return self._table({name: _together([part[name] for part in parts]) for name in parts[0]})

    def recommendation_parts(
        self,
        users: Any = None,
        k: int = 10,
        *,
        among: Any = None,
        deny: Any = None,
        exclude: Any = None,
        tables: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        entity: str | None = None,
        target: str | None = None,
        explore: Literal["thompson", "ucb"] | None = None,
        seed: int = 0,
        level: float = 0.95,
        error: float | None = None,
        threads: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """What `recommend` gives, for some users at a time: columns by name, in bounded memory.

        Parameters are those of `recommend`; so are the errors.
        """
        check_whole("k", k, 1)
        if error is not None and explore is not None:
            raise OptionError("error= is for scores without explore=: leave one of them out")
        model = self._to_explore(explore)
        if model is not None and explore == "thompson":
            towers = compile_towers(drawn_model(model, seed), entity, target, tables, context)
            index = index_targets(towers.target_side)
        else:
            towers, index = self._towers(entity, target, tables, context, error)
        index = self._allowed(towers, index, among, deny)
        values, places = self._entities(towers, users)
        seen = None if exclude is None else self._seen(towers, exclude, values)
        depth = min(k, max(len(index.place), 1))
        for first in range(0, max(len(places), 1), ENTITIES):
            rows = np.arange(first, min(first + ENTITIES, len(places)))
            own = None if seen is None else take_lists(seen, rows)
            some = values.slice(first, ENTITIES)
            if model is not None and explore == "ucb":
                options = {"tables": tables, "context": context}
                found = upper_ranked(model, towers, index, some, depth, level=level, seen=own, **options)
            else:
                found = ranked(towers, index, places[rows], depth, seen=own, threads=threads)
            yield recommendation_columns(towers, some, places[rows], found.target, found.score)

    def rank(
        self,
        user: Any,
        items: Any,
        *,
        tables: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        entity: str | None = None,
        target: str | None = None,
    ) -> Any:
        """Given items in the order of their scores for a user, or for each of several: the table of `recommend`.

        Parameters
        ----------
        user : value or array_like
        items : array_like
        tables, context, entity, target
            As of `recommend`.

        Raises
        ------
        OptionError, LevelError, DataError

        Warns
        -----
        UnknownLevelWarning
            Some of the items are not there; they are left out.
        """
        chosen = values_of("items", items)
        return self.recommend(
            user,
            max(len(chosen), 1),
            among=chosen,
            tables=tables,
            context=context,
            entity=entity,
            target=target,
        )

    def _to_explore(self, explore: str | None) -> Model | None:
        """The model, if it is to explore.

        Raises
        ------
        OptionError
            It has no posterior.
        """
        if explore is None:
            return None
        choice("explore", explore, ("thompson", "ucb"))
        model = cast("Model | ImplicitModel", self.model)
        if isinstance(model, ImplicitModel):
            raise OptionError("explore= needs a posterior, and a model of implicit feedback has none")
        return model

    def _towers(
        self,
        entity: str | None,
        target: str | None,
        tables: Mapping[str, Any] | None,
        context: Mapping[str, Any] | None,
        error: float | None,
    ) -> tuple[Towers, TargetIndex]:
        """The model's towers; those without tables and context are kept for the next call."""
        key = (entity, target, error)
        if self._compiled is not None and self._compiled[0] == key and not tables and not context:
            return self._compiled[1:]
        towers = compile_towers(self.model, entity, target, tables, context)
        towers = towers if error is None else compress(towers, error)
        index = index_targets(towers.target_side)
        if not tables and not context:
            self._compiled = (key, towers, index)
        return towers, index

    def _allowed(self, towers: Towers, index: TargetIndex, among: Any, deny: Any) -> TargetIndex:
        if among is None and deny is None:
            return index
        allow = np.ones(len(towers.targets), np.bool_)
        for option, given, kept in (("among", among, True), ("deny", deny, False)):
            if given is None:
                continue
            code = look_up(towers.target, Levels(values_of(option, given).unique()), towers.targets)
            if (code == UNKNOWN).any() and kept:
                count = int(np.count_nonzero(code == UNKNOWN))
                warn(f"{option} has {counted(count, 'value')} that no {towers.target!r} is", UnknownLevelWarning)
            listed = np.zeros(len(allow), np.bool_)
            listed[code[code >= 0]] = True
            allow &= listed if kept else ~listed
        return index.only(allow)

    def _entities(self, towers: Towers, users: Any) -> tuple[pa.Array, CodeArray]:
        """The values of the entities that are asked for, and their places; -1 of those that are not known."""
        if users is None:
            places = np.flatnonzero(towers.known_entities).astype(np.int32)
            return towers.entities.values.take(from_numpy(places)), places
        values = values_of("users", users)
        codes, batch = encode_batch(values, pa.field(towers.entity, values.type), 0)
        if (codes < 0).any():
            raise OptionError(f"users: number {int(np.argmax(codes < 0))} is missing")
        places = look_up(towers.entity, Levels(batch.distinct), towers.entities)[codes]
        self._check_entities(towers, values, places)
        if kind_of(values.type) == "category" != kind_of(towers.entities.values.type) and (places >= 0).all():
            # numbers that were written as text
            values = towers.entities.values.take(from_numpy(places))
        return values, np.where(places >= 0, places, -1).astype(np.int32)

    def _check_entities(self, towers: Towers, values: pa.Array, places: CodeArray) -> None:
        """A mixed model has an answer for users that it does not know."""

    def _seen(self, towers: Towers, exclude: Any, values: pa.Array) -> Lists:
        """Pairs that are not to be listed, by the entities that are asked for."""
        if isinstance(exclude, str) and exclude == "seen":
            entity, target = self._seen_pairs(towers.entity, towers.target)
        else:
            table = read_table(open_source(exclude), numbers=(), factors=sorted({towers.entity, towers.target}))
            entity, target = table.factors[towers.entity], table.factors[towers.target]
        codes, batch = encode_batch(values, pa.field(towers.entity, values.type), 0)
        lists = pair_lists((towers.entity, entity), (towers.target, target), Levels(batch.distinct), towers.targets)
        return take_lists(lists, codes)

    def _seen_pairs(self, entity: str, target: str) -> tuple[Factor, Factor]:
        known = self._known_pairs(entity, target)
        if known is None:
            raise OptionError(
                f"exclude='seen': the model does not know the pairs of {entity!r} and {target!r} that it was fitted "
                "on; save it with seen=True, or give them as a table, exclude=data"
            )
        return known

    def _known_pairs(self, entity: str, target: str) -> tuple[Factor, Factor] | None:
        """The pairs of the fit's rows, where these, the model or the data have them."""
        design, seen = cast("Design | PairsDesign | None", self._design), self.model.seen
        if isinstance(design, PairsDesign):
            own = {design.spec.user: Factor(design.user_codes, design.users)}
            own[design.spec.item] = Factor(design.item_codes, design.items)
            return own[entity], own[target]
        if isinstance(design, Design):
            factors = column_factor(design, entity), column_factor(design, target)
            if factors[0] is not None and factors[1] is not None:
                return factors[0], factors[1]
        if seen is not None and {seen.entity, seen.target} == {entity, target}:
            found = factors_of_seen(seen, self._levels_of(seen.entity), self._levels_of(seen.target))
            return (found[0], found[1]) if seen.entity == entity else (found[1], found[0])
        if self._data is None:
            return None
        table = read_table(open_source(self._data), numbers=(), factors=sorted({entity, target}))
        return table.factors[entity], table.factors[target]

    def _seen_to_keep(self, seen: bool | tuple[str, str]) -> Seen | None:
        """The pairs that a saved model keeps: those asked for, or those that it has.

        Raises
        ------
        OptionError
            They are not known, or it is not clear of which factors they are.
        """
        if isinstance(seen, bool) and not seen:
            return self.model.seen
        if isinstance(seen, bool):
            names = choose_pair(self.model)
        elif isinstance(seen, tuple | list) and len(seen) == 2:
            names = choose_pair(self.model, *seen)
        else:
            raise OptionError(f"seen={seen!r}: say True, False, or two columns, such as ('user', 'item')")
        entity, target = self._seen_pairs(*names)
        levels = [self._levels_of(name) for name in names]
        return seen_of((names[0], entity), (names[1], target), *levels)

    def _levels_of(self, column: str) -> Levels:
        model = cast("Model | ImplicitModel", self.model)
        if isinstance(model, ImplicitModel):
            return model.users if column == model.spec.user else model.items
        return model.column_levels[column]


def recommendation_columns(
    towers: Towers, values: pa.Array, places: CodeArray, items: npt.NDArray[np.integer], scores: FloatArray
) -> dict[str, Any]:
    """The columns of a table of recommendations.

    Parameters
    ----------
    values : pyarrow.Array, shape (b,)
        The entities as they were asked for.
    places : int32 array, shape (b,)
    items, scores : arrays, shape (b, k)
        As of `ranef.score.recommend.ranked`.
    """
    listed = items >= 0
    who, depth = np.nonzero(listed)
    item = items[listed]
    known = np.append(towers.known_entities, False)[places]
    return {
        towers.entity: values.take(from_numpy(who)),
        "rank": (depth + 1).astype(np.int64),
        towers.target: towers.targets.values.take(from_numpy(item)),
        "score": scores[listed],
        f"known_{towers.entity}": pa.array(known[who]),
        f"known_{towers.target}": pa.array(towers.known_targets[item]),
    }


def _together(parts: Sequence[Any]) -> Any:
    """A column of several tables as one."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else pa.chunked_array(parts)


def values_of(option: str, given: Any) -> pa.Array:
    """Values of a caller as an Arrow array.

    Raises
    ------
    OptionError
    """
    if isinstance(given, pa.ChunkedArray):
        return given.combine_chunks()
    if isinstance(given, pa.Array):
        return given.dictionary_decode() if pa.types.is_dictionary(given.type) else given
    try:
        if isinstance(given, str | bytes) or not hasattr(given, "__len__"):
            return pa.array([given])
        made = pa.array(given)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise OptionError(f"{option}: give a value or an array of values ({error})") from error
    made = made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made
    return made.dictionary_decode() if pa.types.is_dictionary(made.type) else made
