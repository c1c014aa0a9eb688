"""A score taken apart for one user, also one whom events have changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.artifact.implicit import ImplicitModel
from ranef.artifact.model import Model
from ranef.errors import LevelError
from ranef.score.explain import Addend, explain_implicit, explain_rows, past_shares
from ranef.score.merged import level_state, prior_covariance
from ranef.score.sides import columns_of_pairs
from ranef.serve.messages import Id
from ranef.serve.online import Changed
from ranef.serve.served import Served
from ranef.table import Levels, open_source
from ranef.table.arrow import from_numpy, from_texts

FloatArray = npt.NDArray[np.float64]

# past items that are shown
MOST_PAST = 5


@dataclass(frozen=True, eq=False)
class Explained:
    """Addends that sum to the score, and the user's items that carry most of the factor part, with their shares."""

    addends: list[Addend]
    past: list[tuple[Id, float]]

    @property
    def score(self) -> float:
        return float(sum(one.addend[0] for one in self.addends))


def explained(served: Served, user: Id, item: Id, changed: Changed | None) -> Explained:
    """Take one score apart.

    Parameters
    ----------
    served : Served
    user, item : ids
        Of the types of their columns; they need not be known.
    changed : Changed, optional
        What events have made of the user.

    Raises
    ------
    LevelError
        An attribute is missing, so that there is no score.
    """
    place, target = served.entities.places.get(user, -1), served.targets.places.get(item, -1)
    model, towers = served.model, served.towers
    if isinstance(model, ImplicitModel):
        addends = explain_implicit(model, np.array([place]), np.array([target]))
        return Explained(addends, _past(served, place, target, None))
    source = open_source(
        {
            towers.entity: _value(towers.entities, place, user),
            towers.target: _value(towers.targets, target, item),
        }
    )
    columns = columns_of_pairs(model, towers.entity, towers.target, None, None)
    addends = explain_rows(replace(model, attributes=columns.attributes), source)
    if changed is not None and target >= 0:
        addends = _moved(served, model, addends, changed, place, target)
    found = Explained(addends, _past(served, place, target, changed))
    if not np.isfinite(found.score):
        raise LevelError(f"there is no score of {user!r:.80} and {item!r:.80}: an attribute is missing")
    return found


def _moved(
    served: Served, model: Model, addends: list[Addend], changed: Changed, place: int, target: int
) -> list[Addend]:
    """The addends with the coefficients that events have led to."""
    block = served.block
    if block is None:
        return addends
    factor, code = block.factor, int(block.codes[place])
    new = changed.state.mean
    old = np.zeros(factor.size) if code < 0 else level_state(model, factor, code).mean
    h = served.towers.target_side[target] @ block.matrix.T
    variance, prior = np.diag(changed.state.covariance), np.diag(prior_covariance(model, factor))
    share = np.divide(variance, prior, out=np.ones_like(prior), where=prior > 0).clip(0, 1)
    texts = {model.spec.latent[t].text: own for (t, _, _), own in zip(factor.fields, factor.field_slices, strict=True)}
    out, effect = [], 0
    for one in addends:
        if one.kind == "random" and one.group == factor.name:
            own = new[effect : effect + 1]
            out.append(
                replace(
                    one,
                    coefficient=own,
                    addend=h[effect] * own,
                    count=np.where(one.count >= 0, one.count + changed.events, one.count),
                    shrinkage=share[effect : effect + 1],
                )
            )
            effect += 1
        elif one.kind == "latent" and one.group in texts:
            axis = texts[one.group].start + int(one.name) - 1
            out.append(replace(one, addend=one.addend + (new[axis] - old[axis]) * h[axis]))
        else:
            out.append(one)
    return out


def _past(served: Served, place: int, target: int, changed: Changed | None) -> list[tuple[Id, float]]:
    """The user's items, those of events too, that carry most of the factor part."""
    if served.factors is None or target < 0:
        return []
    own = served.seen_by(place) if changed is None else np.union1d(served.seen_by(place), changed.targets)
    own = own[own != target]
    user = served.factors.user(place)
    if changed is not None and served.block is not None and served.block.factor.fields:
        user = changed.state.mean[served.block.factor.field_slices[0]]
    if user is None or not len(own):
        return []
    shares = past_shares(user, served.factors.item(np.array([target]))[0], served.factors.item(own))
    most = np.argsort(-np.abs(shares), kind="stable")[:MOST_PAST]
    return [(served.targets.values[own[one]], float(shares[one])) for one in most]


def _value(levels: Levels, place: int, given: Id) -> pa.Array:
    """An id as its column has it, shape (1,)."""
    if place >= 0:
        return levels.values.slice(place, 1)
    return from_texts([given]) if isinstance(given, str) else from_numpy(np.array([given]))
