"""What a fit with latent terms says of its vectors."""

from __future__ import annotations

from typing import Any

from ranef.errors import OptionError
from ranef.result.embedding import (
    Embedding,
    axes_table,
    embedding_of,
    embedding_table,
    names_of,
    nearest_levels,
    place_of,
    unit_vectors,
)
from ranef.result.estimates import Estimates
from ranef.result.options import check_whole
from ranef.table import open_source


class Vectors(Estimates):
    """What `Fit` says of the vectors of a latent term's levels.

    Only the products of vectors are identified. Where a term has two sides, vectors come in coordinates in which both
    sides have the same diagonal covariance, descending; of more sides only the orientation is free, and the sum of
    their covariances is diagonal. The sign of each coordinate is that of the run; that of `axes` is not.
    """

    def embedding(self, group: str, sd: bool = False, term: str | None = None) -> Any:
        """Table of the vectors of a factor's levels: level, then ``1`` to the rank.

        Parameters
        ----------
        group : str
            A factor of a latent term, as the formula writes it: ``"item"``, ``"bag(genres)"``.
        sd : bool
            Add their posterior standard deviations, ``sd_1`` and so on.
        term : str, optional
            The latent term, where several have the factor: ``"latent(user, item, rank=8)"``.

        Raises
        ------
        OptionError
        """
        return self._table(embedding_table(self._embedding(group, term), sd))

    def axes(self, group: str, n: int = 5, names: Any = None, term: str | None = None) -> Any:
        """Table of the principal axes of a factor's levels, and of the most extreme levels at both ends of each.

        What the levels' vectors give with those that they meet, both about their means, is a matrix with one row a
        level; the axes are its principal components. So they do not depend on the coordinates of the vectors. Every
        level counts once.

        Parameters
        ----------
        group : str
            As in `embedding`; so is ``term``.
        n : int
            Levels at each end.
        names : table, optional
            With the column ``group`` and one more, which is shown beside the levels: titles, for instance.

        Returns
        -------
        table
            ``axis`` from 1; ``share`` of the matrix' variance; ``end``, ``"high"`` or ``"low"``; ``place`` from the
            most extreme on; ``level``; the names; ``score``: how far from the mean level, as the standard deviation of
            the level's part along this axis over the levels that it meets. High is where the tail is longer (the sum of
            the cubed scores is positive), whatever the seed.

        Raises
        ------
        OptionError
        """
        check_whole("n", n, 1)
        embedding = self._embedding(group, term)
        called, own = _names(embedding, names)
        return self._table(axes_table(embedding, n, own, called))

    def similar(self, group: str, level: Any, k: int = 10, names: Any = None, term: str | None = None) -> Any:
        """Table of the levels most like one: level, the names if given, and the cosine of the two vectors.

        Parameters
        ----------
        group : str
            As in `embedding`; so is ``term``.
        level : object
            One level of the fit.
        k : int
            How many.
        names : table, optional
            As in `axes`.

        Raises
        ------
        LevelError
            The fit does not have the level.
        OptionError
        """
        check_whole("k", k, 1)
        embedding = self._embedding(group, term)
        called, own = _names(embedding, names)
        place = place_of(embedding, level)
        return self._table(nearest_levels(embedding, embedding.vectors[place], k, [place], own, called))

    def analogy(
        self, group: str, a: Any, b: Any, c: Any, k: int = 10, names: Any = None, term: str | None = None
    ) -> Any:
        """Table of the levels that are to ``c`` what ``b`` is to ``a``: nearest to ``b - a + c``.

        Vectors are brought to length one first, and the three levels are left out of the answer (Mikolov, Yih and
        Zweig 2013, NAACL).

        Parameters
        ----------
        group : str
            As in `embedding`; so is ``term``.
        a, b, c : object
            Levels of the fit.
        k : int
            How many.
        names : table, optional
            As in `axes`.

        Returns
        -------
        table
            As of `similar`.

        Raises
        ------
        LevelError
            The fit does not have a level.
        OptionError
        """
        check_whole("k", k, 1)
        embedding = self._embedding(group, term)
        called, own = _names(embedding, names)
        places = [place_of(embedding, level) for level in (a, b, c)]
        first, second, third = unit_vectors(embedding.vectors[places])
        return self._table(nearest_levels(embedding, second - first + third, k, places, own, called))

    def _embedding(self, group: str, term: str | None) -> Embedding:
        if term is not None and not isinstance(term, str):
            raise OptionError(f"term={term!r}: give the latent term as the formula writes it")
        return embedding_of(self.model, group, term)


def _names(embedding: Embedding, names: Any) -> tuple[str, list[Any] | None]:
    return ("name", None) if names is None else names_of(embedding, open_source(names))
