"""R's rule for which factors of which terms get a column per level and which get contrasts."""

from __future__ import annotations

from collections.abc import Sequence


def indicator_codes(terms: Sequence[Sequence[int]], factor: Sequence[bool], intercept: bool) -> list[list[bool]]:
    """For every variable of every term: one column per level (True) or contrasts (False).

    A variable gets contrasts if the rest of its term is already spanned: the rest is empty, or contained in an
    earlier term. Without an intercept, the first factor of the first term that has one gets a column per level.
    This is the coding of R's ``terms`` and ``model.matrix`` (Chambers & Hastie 1992, section 2.4), with its known
    blind spots, so that the columns are R's.

    Parameters
    ----------
    terms : sequence of sequences of int
        The variables of each term, without the intercept, in R's order.
    factor : sequence of bool, shape (variables,)
        Which variables are factors; the others have only one coding and get False.
    intercept : bool

    Returns
    -------
    list of list of bool
        In the shape of ``terms``.
    """
    sets = [set(term) for term in terms]
    codes = []
    for position, term in enumerate(terms):
        earlier = sets[:position]
        codes.append([factor[v] and not _spanned(sets[position] - {v}, earlier) for v in term])
    if not intercept:
        first = next(((i, j) for i, term in enumerate(terms) for j, v in enumerate(term) if factor[v]), None)
        if first is not None:
            codes[first[0]][first[1]] = True
    return codes


def _spanned(rest: set[int], earlier: Sequence[set[int]]) -> bool:
    return not rest or any(rest <= term for term in earlier)
