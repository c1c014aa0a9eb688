"""The example tables of the mixed-model literature, as Arrow tables.

Every factor is a dictionary column whose levels stand in R's order, and ordered where R has it so, hence the
contrasts of a fit are those of the published analyses. ``files/README.md`` names the sources.
"""

from __future__ import annotations

from importlib import resources

import pyarrow as pa
import pyarrow.parquet as pq

from ranef.errors import OptionError, nearest

NAMES: tuple[str, ...] = ("cake", "dyestuff", "dyestuff2", "insteval", "pastes", "penicillin", "sleepstudy")
"""What :func:`load` knows."""


def load(name: str) -> pa.Table:
    """An example table by its name.

    Parameters
    ----------
    name : str
        One of :data:`NAMES`; case is ignored.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    OptionError
        No table has this name.

    Examples
    --------
    >>> from ranef.data import load
    >>> load("sleepstudy").column_names
    ['Reaction', 'Days', 'Subject']
    """
    known = name.lower() if isinstance(name, str) else name
    if known not in NAMES:
        close = nearest(str(name), NAMES, count=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise OptionError(f"there is no example table {name!r}.{hint} There are: {', '.join(NAMES)}")
    path = resources.files("ranef.data").joinpath("files", f"{known}.parquet")
    with path.open("rb") as file:
        return pq.read_table(pa.BufferReader(file.read()))


def cake() -> pa.Table:
    """Breaking angles of 270 chocolate cakes: recipe, oven temperature and replicate (Cochran & Cox 1957).

    Returns
    -------
    pyarrow.Table, 270 rows
        ``replicate`` (15 levels), ``recipe`` (3), ``temperature`` (6, ordered), ``angle`` (degrees),
        ``temp`` (degrees Fahrenheit, as a number).
    """
    return load("cake")


def dyestuff() -> pa.Table:
    """Yield of dyestuff in five samples of each of six batches (Davies & Goldsmith 1972).

    Returns
    -------
    pyarrow.Table, 30 rows
        ``Batch`` (6 levels), ``Yield`` (grams of standard colour).
    """
    return load("dyestuff")


def dyestuff2() -> pa.Table:
    """Simulated data in the layout of :func:`dyestuff` whose estimated batch variance is zero (Box & Tiao 1973).

    Returns
    -------
    pyarrow.Table, 30 rows
        ``Batch`` (6 levels), ``Yield``.
    """
    return load("dyestuff2")


def insteval() -> pa.Table:
    """Evaluations of lecturers by students at ETH Zurich: two large crossed factors.

    Returns
    -------
    pyarrow.Table, 73,421 rows
        ``s`` (2,972 students), ``d`` (1,128 lecturers), ``studage`` and ``lectage`` (ordered), ``service`` (2 levels),
        ``dept`` (14 departments), ``y`` (rating, 1 to 5).
    """
    return load("insteval")


def pastes() -> pa.Table:
    """Strength of a chemical paste: two assays of each of three casks in each of ten batches (Davies & Goldsmith 1972).

    Returns
    -------
    pyarrow.Table, 60 rows
        ``strength``, ``batch`` (10 levels), ``cask`` (3, repeated in every batch), ``sample`` (30, cask within batch).
    """
    return load("pastes")


def penicillin() -> pa.Table:
    """Zones of inhibited growth: six samples of penicillin on each of 24 plates (Davies & Goldsmith 1972).

    Returns
    -------
    pyarrow.Table, 144 rows
        ``diameter`` (millimetres), ``plate`` (24 levels), ``sample`` (6).
    """
    return load("penicillin")


def sleepstudy() -> pa.Table:
    """Reaction times of 18 subjects over ten days of restricted sleep (Belenky et al. 2003).

    Returns
    -------
    pyarrow.Table, 180 rows
        ``Reaction`` (milliseconds), ``Days`` (0 to 9), ``Subject`` (18 levels).
    """
    return load("sleepstudy")
