"""Latent terms on the fit's rows: sides, which are sums of factors whose levels have vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ranef.design.fields import FieldDesign, field_design, side_fields
from ranef.design.periods import Period
from ranef.design.spec import LatentSpec
from ranef.errors import DataError
from ranef.formula.nodes import Formula
from ranef.storage import MEMORY, Storage
from ranef.table import Table


@dataclass(frozen=True, eq=False)
class LatentDesign:
    """A latent term on the fit's rows: its part of the linear predictor is the sum over all pairs of sides of the inner
    products of their vectors; a side's vector is the sum of its fields' vectors.

    Attributes
    ----------
    spec : LatentSpec
    sides : tuple of tuples of FieldDesign
    rank : int or None
        None is ``"auto"``.
    """

    spec: LatentSpec
    sides: tuple[tuple[FieldDesign, ...], ...]
    rank: int | None

    def piece(self, rows: slice) -> LatentDesign:
        """Some of the rows; nothing is copied."""
        sides = tuple(tuple(replace(one, codes=one.codes[rows]) for one in side) for side in self.sides)
        return replace(self, sides=sides)


def latent_designs(
    formula: Formula, table: Table, periods: Sequence[Period], storage: Storage = MEMORY
) -> tuple[LatentDesign, ...]:
    """The latent terms of a formula on the rows of a table.

    Raises
    ------
    DataError
        A factor has one level, or the levels of a walk no order.
    """
    made: dict[str, FieldDesign] = {}
    out = []
    for term in formula.latent:
        spec = LatentSpec(term.text, tuple(side_fields(side) for side in term.sides), term.rank)
        for field in (field for side in spec.sides for field in side):
            if field.name in made:
                continue
            made[field.name] = field_design(field, table, periods, storage)
            if len(made[field.name].levels) < 2:
                raise DataError(
                    f"{field.name!r} in {term.text} has fewer than two levels, so its vectors tell nothing apart; "
                    "leave it out",
                    column=field.columns[0],
                )
        out.append(LatentDesign(spec, tuple(tuple(made[one.name] for one in side) for side in spec.sides), term.rank))
    return tuple(out)
