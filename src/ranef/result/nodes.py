"""Which methods take nodes of quadrature."""

from __future__ import annotations

from ranef.errors import OptionError
from ranef.family import Family
from ranef.learn.quadrature import MOST_NODES
from ranef.result.options import check_whole


def check_quadrature(nodes: int, family: Family, method: str) -> None:
    """Refuse nodes that the method does not take.

    Raises
    ------
    OptionError
    """
    check_whole("quadrature", nodes, 1)
    if nodes > MOST_NODES:
        raise OptionError(f"quadrature={nodes}: give at most {MOST_NODES} nodes; 25 are as good as exact")
    if nodes > 1 and method != "laplace":
        why = "fixed effects do not maximise the likelihood"
        if method == "gibbs":
            why = "nothing is integrated, everything is drawn"
        elif family.kind == "number":
            why = "the likelihood is exact"
        raise OptionError(
            f"quadrature={nodes} goes with method='laplace', not with method={method!r} of family={family.name!r}: "
            f"there {why}"
        )
