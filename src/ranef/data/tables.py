"""The example tables of the mixed-model literature, as Arrow tables.

Every factor is a dictionary column whose levels stand in R's order, and ordered where R has it so, hence the
contrasts of a fit are those of the published analyses. ``files/README.md`` names the sources.
"""

from __future__ import annotations

from importlib import resources

import pyarrow as pa
import pyarrow.parquet as pq

from ranef.errors import OptionError, nearest

NAMES: tuple[str, ...] = (
    "bacteria",
    "cake",
    "cbpp",
    "dyestuff",
    "dyestuff2",
    "epil",
    "grouseticks",
    "insteval",
    "pastes",
    "penicillin",
    "salamanders",
    "sleepstudy",
    "soup",
    "verbagg",
    "wine",
)
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


def bacteria() -> pa.Table:
    """Whether H. influenzae was found in children with otitis media, by treatment and week (Venables & Ripley 2002).

    Returns
    -------
    pyarrow.Table, 220 rows
        ``y`` (n or y), ``ap`` (active drug or placebo), ``hilo`` (compliance), ``week``, ``ID`` (50 children),
        ``trt`` (placebo, drug, drug+).
    """
    return load("bacteria")


def cake() -> pa.Table:
    """Breaking angles of 270 chocolate cakes: recipe, oven temperature and replicate (Cochran & Cox 1957).

    Returns
    -------
    pyarrow.Table, 270 rows
        ``replicate`` (15 levels), ``recipe`` (3), ``temperature`` (6, ordered), ``angle`` (degrees),
        ``temp`` (degrees Fahrenheit, as a number).
    """
    return load("cake")


def cbpp() -> pa.Table:
    """New cases of contagious bovine pleuropneumonia in 15 herds over four periods (Lesnoff et al. 2004).

    Returns
    -------
    pyarrow.Table, 56 rows
        ``herd`` (15 levels), ``incidence`` (cases), ``size`` (of the herd), ``period`` (4 levels).
    """
    return load("cbpp")


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


def epil() -> pa.Table:
    """Seizures of 59 epileptics in four periods of two weeks, placebo against progabide (Thall & Vail 1990).

    Returns
    -------
    pyarrow.Table, 236 rows
        ``y`` (seizures), ``trt`` (2 levels), ``base`` (seizures before), ``age``, ``V4`` (last period), ``subject``,
        ``period``; ``lbase`` and ``lage`` are centred logarithms.
    """
    return load("epil")


def grouseticks() -> pa.Table:
    """Ticks on the heads of red grouse chicks, by brood and location (Elston et al. 2001).

    Returns
    -------
    pyarrow.Table, 403 rows
        ``INDEX`` (403 chicks), ``TICKS``, ``BROOD`` (118 levels), ``HEIGHT`` (metres), ``YEAR`` (3), ``LOCATION`` (63),
        ``cHEIGHT`` (centred).
    """
    return load("grouseticks")


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


def salamanders() -> pa.Table:
    """Salamanders counted at 23 sites in streams, with and without mining nearby (Price et al. 2016).

    Returns
    -------
    pyarrow.Table, 644 rows
        ``site`` (23 levels), ``mined`` (yes or no), ``cover``, ``sample``, ``DOP``, ``Wtemp``, ``DOY``, ``spp`` (7
        species and stages), ``count``.
    """
    return load("salamanders")


def sleepstudy() -> pa.Table:
    """Reaction times of 18 subjects over ten days of restricted sleep (Belenky et al. 2003).

    Returns
    -------
    pyarrow.Table, 180 rows
        ``Reaction`` (milliseconds), ``Days`` (0 to 9), ``Subject`` (18 levels).
    """
    return load("sleepstudy")


def soup() -> pa.Table:
    """How sure 185 consumers were that a soup was the reference or the test product (Christensen et al. 2011).

    Returns
    -------
    pyarrow.Table, 1,847 rows
        ``RESP`` (185 consumers), ``PROD`` (Ref or Test), ``PRODID`` (6), ``SURENESS`` (1 to 6, ordered), ``DAY`` (2),
        and about the consumer ``SOUPTYPE``, ``SOUPFREQ``, ``COLD``, ``EASY``, ``GENDER``, ``AGEGROUP``, ``LOCATION``.
    """
    return load("soup")


def verbagg() -> pa.Table:
    """Verbal aggression: 316 persons say what they would do in 24 situations (De Boeck & Wilson 2004).

    Returns
    -------
    pyarrow.Table, 7,584 rows
        ``Anger`` (trait score), ``Gender``, ``item`` (24 levels), ``resp`` (no, perhaps, yes), ``id`` (316), ``btype``
        (curse, scold or shout), ``situ`` (other or self to blame), ``mode`` (want or do), ``r2`` (N or Y).
    """
    return load("verbagg")


def wine() -> pa.Table:
    """Bitterness of wine by temperature and contact of juice and skins, rated by nine judges (Randall 1989).

    Returns
    -------
    pyarrow.Table, 72 rows
        ``response`` (0 to 100), ``rating`` (1 to 5, ordered), ``temp`` (cold or warm), ``contact`` (no or yes),
        ``bottle`` (8), ``judge`` (9).
    """
    return load("wine")
