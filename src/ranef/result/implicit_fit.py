"""`ImplicitFit`: a fitted model of implicit feedback."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from ranef.artifact.implicit import ImplicitModel, SweepRecord
from ranef.artifact.implicit_files import save_implicit
from ranef.design.pairs import PairsDesign
from ranef.errors import DroppedRowsWarning, LevelError, OptionError, UnknownLevelWarning, counted
from ranef.formula import parse
from ranef.result.embedding import Embedding, implicit_embedding
from ranef.result.fit import Fit
from ranef.result.habits import PREDICT, with_habits
from ranef.result.implicit_summary import implicit_summary
from ranef.result.options import choice
from ranef.result.text import Text
from ranef.result.warn import warn
from ranef.score import Kind
from ranef.score.implicit import folded_vectors, pair_scores, read_known, sums_of_pairs, with_users
from ranef.score.towers import Towers
from ranef.table import UNKNOWN, CodeArray, open_source, to_library

FloatArray = npt.NDArray[np.float64]


class ImplicitFit(Fit):
    """A fitted model of implicit feedback; made by ``ranef.fit(..., family="implicit")`` and `ranef.load`.

    It has scores and vectors in the place of a mixed model's estimates: what it does not have (`loglik`, `varcorr` and
    the like) raises and says so.
    """

    model: ImplicitModel  # type: ignore[assignment]
    _design: PairsDesign | None  # type: ignore[assignment]

    def __init__(
        self,
        model: ImplicitModel,
        formula: str,
        library: str,
        design: PairsDesign | None = None,
        data: Any = None,
        options: dict[str, Any] | None = None,
    ):
        super().__init__(model, formula, library, design, data, options)  # type: ignore[arg-type]

    # Numbers

    @property
    def family(self) -> str:
        """``"implicit"``."""
        return "implicit"

    @property
    def link(self) -> str:
        return "identity"

    @property
    def method(self) -> str:
        """``"map"``: vectors at the minimum of a penalised sum of squares."""
        return "map"

    @property
    def solver(self) -> str:
        return "conjugate gradients"

    @property
    def rank(self) -> int:  # type: ignore[override]
        """Numbers in a vector; for given items in order see ``recommend(user, among=items)``."""
        return self.model.rank

    @property
    def unobserved(self) -> float:
        """Weight of a pair that is not observed; an observed one has as much more as its confidence."""
        return self.model.info.weights.unobserved

    @property
    def penalty(self) -> float:
        return self.model.info.weights.penalty

    @property
    def exponent(self) -> float:
        """The penalty of a vector is ``penalty * total ** exponent``; ``total`` is the weight of all pairs it is in."""
        return self.model.info.weights.exponent

    @property
    def objective(self) -> float:
        """The penalised sum of squares, with every user's vector at its minimum."""
        return self.model.info.objective

    @property
    def iterations(self) -> int:
        """Sweeps over both sides."""
        return len(self.model.info.history)

    @property
    def history(self) -> tuple[SweepRecord, ...]:  # type: ignore[override]
        """The objective after every sweep."""
        return self.model.info.history

    def trials(self) -> Any:
        """Table of the settings that were tried on validation users, in order; empty if all was given.

        ``rank``, ``unobserved``, ``penalty``, ``exponent``, ``iterations`` (sweeps, of the best score), ``ndcg`` (at
        100), ``se`` (its standard error over the users) and ``seconds``.
        """
        trials = self.model.info.trials
        whole = {name: np.array([getattr(one, name) for one in trials], np.int64) for name in ("rank", "iterations")}
        names = ("rank", "unobserved", "penalty", "exponent", "iterations", "ndcg", "se", "seconds")
        columns = {
            name: whole[name] if name in whole else np.array([getattr(one, name) for one in trials], np.float64)
            for name in names
        }
        return self._table(columns)

    # Vectors and scores

    def _embedding(self, group: str, term: str | None) -> Embedding:
        if term is not None:
            raise OptionError("term= has no meaning for family='implicit', which has one; leave it out")
        return implicit_embedding(self.model, group)

    @with_habits(PREDICT)
    def predict(
        self,
        data: Any,
        type: Kind = "response",
        new_levels: Literal["population", "raise"] = "population",
        interval: Literal["confidence", "prediction"] | None = None,
        level: float = 0.95,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        tables: Mapping[str, Any] | None = None,
    ) -> FloatArray:
        """Scores of pairs, in the order of the rows: near 1 where a pair is expected, 0 where nothing is known.

        Parameters
        ----------
        data : any data that `ranef.fit` takes
            The columns of the users and of the items.
        type : {"response", "link"}
            The same.
        new_levels : {"population", "raise"}
            A user or item that was not seen in fitting has the score 0, or is an error. New users with pairs of their
            own are what `fold_in` is for.
        interval, level, include, exclude, tables
            Not of this family: an error if given.

        Returns
        -------
        float64 array, shape (rows,)
            NaN where a value is missing.

        Warns
        -----
        DroppedRowsWarning, UnknownLevelWarning
        """
        choice("type", type, ("response", "link"), " for family='implicit'")
        choice("new_levels", new_levels, ("population", "raise"))
        others = {"interval": interval, "include": include, "exclude": exclude, "tables": tables}
        for name, value in others.items():
            if value is not None:
                raise OptionError(f"{name}= has no meaning for family='implicit'; leave it out")
        found = pair_scores(self.model, open_source(data))
        for name, (rows, first, label) in found.unknown.items():
            what = (
                f"{counted(rows, 'row')} with a {name!r} that was not seen in fitting, the first {label!r}, row {first}"
            )
            if new_levels == "raise":
                raise LevelError(
                    f"{what}; leave these rows out, or take 0 with new_levels='population'",
                    column=name,
                    row=first,
                    count=rows,
                )
            warn(f"{what}; the score there is 0", UnknownLevelWarning)
        if found.missing:
            warn(f"{counted(found.missing, 'row')} without a user or an item; the score is missing", DroppedRowsWarning)
        return found.scores

    def scores(self, seen: sparse.csr_array) -> npt.NDArray[np.float32]:
        """Scores of all items for users who are known by the items they have; as `ranef.evaluate` asks for them.

        Parameters
        ----------
        seen : scipy.sparse.csr_array, shape (users, items)
            Confidences, above zero where a user has an item; items in the order of ``embedding``'s.

        Returns
        -------
        float32 array, shape (users, items)
        """
        seen = sparse.csr_array(seen)
        if seen.shape[1] != len(self.model.items):
            raise OptionError(
                f"seen has {counted(seen.shape[1], 'column')} but the model {counted(len(self.model.items), 'item')}"
            )
        rows = np.repeat(np.arange(seen.shape[0]), np.diff(seen.indptr))
        known = sums_of_pairs(rows, seen.indices.astype(np.int32), seen.data.astype(np.float64), seen.shape[0])
        users = folded_vectors(self.model, *known)
        found: npt.NDArray[np.float32] = users.astype(np.float32) @ self.model.item_vectors.T
        return found

    def fold_in(self, data: Any, tables: Mapping[str, Any] | None = None) -> ImplicitFit:
        """This fit with new users, or with users whose pairs are others now.

        A user's vector is the minimum of the fit's objective for the items as they are: what it would be had the user
        been there, but for what he would have changed in the items.

        Parameters
        ----------
        data : any data that `ranef.fit` takes
            All pairs of these users, with the confidence if the fit has one.
        tables
            Not of this family: an error if given.

        Returns
        -------
        ImplicitFit
            Its users are this fit's and those of ``data``, whose vectors are new.

        Warns
        -----
        DroppedRowsWarning
            Rows with items that the fit does not have, or with missing values.
        """
        if tables is not None:
            raise OptionError("tables= has no meaning for family='implicit'; leave it out")
        known = read_known(self.model, open_source(data))
        if known.left_out:
            warn(
                f"{counted(known.left_out, 'row')} left out in folding in: the item was not seen in fitting, a value "
                "is missing or the confidence zero",
                DroppedRowsWarning,
            )
        options = {**self._options}
        return ImplicitFit(with_users(self.model, known), self._formula, self._library, None, None, options)

    def _check_entities(self, towers: Towers, values: pa.Array, places: CodeArray) -> None:
        if (places == UNKNOWN).any():
            first = values[int(np.argmax(places == UNKNOWN))].as_py()
            raise LevelError(
                f"{first!r} is not a {towers.entity!r} of the fit; fold_in() adds users by their pairs",
                column=towers.entity,
            )

    # As text, and again

    def summary(self) -> Text:  # type: ignore[override]
        """What was fitted, the weights and how they were chosen, how the objective fell."""
        return Text(implicit_summary(self.model, self._formula))

    def __str__(self) -> str:
        return str(self.summary())

    def __repr__(self) -> str:
        info = self.model.info
        return f"<ranef.Fit {self._formula!r}, implicit, rank {self.rank}, {info.pairs:,} pairs>"

    def refit(self, data: Any = None, **options: Any) -> Fit:
        """Fit the same formula to other data with this fit's weights; choose them anew with `update`."""
        info = self.model.info
        formula = self._formula if "rank" not in info.chosen else _with_rank(self._formula, self.rank)
        weights = {"unobserved": self.unobserved, "penalty": self.penalty, "exponent": self.exponent}
        if info.chosen:
            weights["max_iterations"] = self.iterations
        from ranef.result.front import fit

        return fit(formula, self._again(data), **{**self._options, **weights, **options})

    def save(  # type: ignore[override]
        self, path: str | os.PathLike[str], *, seen: bool | tuple[str, str] = False
    ) -> None:
        """Write a model directory.

        Parameters
        ----------
        path : path
            A new directory, or a ranef model to replace.
        seen : bool or pair of str
            Keep the pairs that the model was fitted on, so that recommendations can leave them out
            (``exclude="seen"``).

        Raises
        ------
        ModelFileError
        OptionError
            If ``path`` is no path.
        """
        if not isinstance(path, str | os.PathLike):
            raise OptionError(f"save() takes the path of a directory, not {type(path).__name__}")
        save_implicit(replace(self.model, seen=self._seen_to_keep(seen)), path)

    def _table(self, columns: Any) -> Any:
        return to_library(columns, self._library)


def _with_rank(formula: str, rank: int) -> str:
    """The formula with a number for ``rank = "auto"``."""
    (term,) = parse(formula).latent
    # the term's normal form, where the rank comes last
    head, _, tail = term.text.rpartition('"auto"')
    return f"{formula[: term.span.start]}{head}{rank}{tail}{formula[term.span.end :]}"


def _without_confidence(model: ImplicitModel) -> ImplicitModel:
    return replace(model, spec=msgspec.structs.replace(model.spec, confidence=None))


class _Absent:
    """A member of `Fit` that speaks of a mixed model."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        raise OptionError(
            f"a fit of implicit feedback has no {self.name}: it is no likelihood, and has vectors in the place of "
            "estimates; see predict(), recommend(), fold_in(), embedding(), axes(), similar(), analogy(), trials() "
            "and summary()"
        )


_SHARED: Sequence[str] = (
    "formula",
    "nobs",
    "dropped",
    "dropped_missing",
    "converged",
    "seconds",
    "library",
    "kept",
    "update",
    "embedding",
    "axes",
    "similar",
    "analogy",
    "explain",
    "rank",
    "recommend",
    "recommendation_parts",
)
for _name in dir(Fit):
    if not _name.startswith("_") and _name not in vars(ImplicitFit) and _name not in _SHARED:
        setattr(ImplicitFit, _name, _Absent(_name))
