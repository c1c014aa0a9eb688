"""Cross products of units made those of the levels that they belong to."""

from __future__ import annotations

from numba import njit


@njit(nogil=True, cache=True)
def fold_values(
    first,
    last,
    k,
    wide_offsets,
    wide_columns,
    wide_values,
    to_start,
    to_column,
    to_weight,
    offsets,
    columns,
    place,
    values,
):
    """Products of a factor's levels ``first <= g < last`` with the columns of levels, from those with units.

    Parameters
    ----------
    wide_offsets, wide_columns, wide_values : arrays
        As in `ranef.kernel.cross`, over the columns of units.
    to_start : int64 array, shape (columns of units + 1,)
        Column ``c`` of the units is the sum of the columns ``to_column[to_start[c]:to_start[c + 1]]`` of levels, times
        ``to_weight``.
    offsets, columns : arrays
        The columns of levels that each level meets.
    place : int64 array, shape (columns of levels,)
        Overwritten.
    values : float64 array
        Overwritten.
    """
    for g in range(first, last):
        start = offsets[g]
        m = offsets[g + 1] - start
        for i in range(m):
            place[columns[start + i]] = i
        values[k * start : k * (start + m)] = 0.0
        _add(
            1.0, g, k, wide_offsets, wide_columns, wide_values, to_start, to_column, to_weight, start, m, place, values
        )


@njit(nogil=True, cache=True)
def fold_levels(
    first,
    last,
    unit_start,
    unit,
    unit_weight,
    level_start,
    level,
    level_weight,
    wide_gram,
    wide_offsets,
    wide_columns,
    wide_values,
    to_start,
    to_column,
    to_weight,
    own,
    offsets,
    columns,
    place,
    gram,
    values,
):
    """Products of the levels ``first <= l < last`` of a membership with themselves, its later levels and the rest.

    Parameters
    ----------
    unit_start, unit, unit_weight : arrays
        The units of each level, and its weight there.
    level_start, level, level_weight : arrays
        The levels of each unit, ascending.
    wide_gram, wide_offsets, wide_columns, wide_values : arrays
        Of the units; ``to_start`` and what follows as in `fold_values`.
    own : int
        First column of this factor's levels.
    gram : float64 array, shape (levels, k, k)
        Overwritten.
    """
    k = wide_gram.shape[1]
    for g in range(first, last):
        start = offsets[g]
        m = offsets[g + 1] - start
        for i in range(m):
            place[columns[start + i]] = i
        values[k * start : k * (start + m)] = 0.0
        gram[g] = 0.0
        for i in range(unit_start[g], unit_start[g + 1]):
            u, w = unit[i], unit_weight[i]
            for a in range(k):
                for b in range(k):
                    gram[g, a, b] += w * w * wide_gram[u, a, b]
            _add(
                w,
                u,
                k,
                wide_offsets,
                wide_columns,
                wide_values,
                to_start,
                to_column,
                to_weight,
                start,
                m,
                place,
                values,
            )
            for j in range(level_start[u], level_start[u + 1]):
                if level[j] > g:
                    at = k * start + place[own + k * level[j]]
                    both = w * level_weight[j]
                    for a in range(k):
                        for b in range(k):
                            values[at + a * m + b] += both * wide_gram[u, a, b]


@njit(nogil=True, cache=True)
def _add(
    weight, g, k, wide_offsets, wide_columns, wide_values, to_start, to_column, to_weight, start, m, place, values
):
    begin = wide_offsets[g]
    wide = wide_offsets[g + 1] - begin
    for i in range(wide):
        c = wide_columns[begin + i]
        for j in range(to_start[c], to_start[c + 1]):
            to = k * start + place[to_column[j]]
            w = weight * to_weight[j]
            for a in range(k):
                values[to + a * m] += w * wide_values[k * begin + a * wide + i]


@njit(nogil=True, cache=True)
def unfold_values(
    first, last, k, wide_offsets, wide_columns, to_start, to_column, to_weight, offsets, columns, place, values, wide
):
    """The transpose of `fold_values`: what each level of a factor has with units, from what it has with levels."""
    for g in range(first, last):
        start = offsets[g]
        m = offsets[g + 1] - start
        for i in range(m):
            place[columns[start + i]] = i
        begin = wide_offsets[g]
        count = wide_offsets[g + 1] - begin
        for a in range(k):
            for i in range(count):
                c = wide_columns[begin + i]
                total = 0.0
                for j in range(to_start[c], to_start[c + 1]):
                    total += to_weight[j] * values[k * start + a * m + place[to_column[j]]]
                wide[k * begin + a * count + i] = total
