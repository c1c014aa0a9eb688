"""The unobserved weight, the penalty and the rank, chosen by what they are worth to validation users.

None of them is a parameter of a likelihood: objectives of two weights of the unobserved pairs do not compare.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from ranef.artifact.implicit import Weights
from ranef.engine.threads import Engine
from ranef.learn.implicit.sweeps import Factors, Sweep, minimise, start_factors
from ranef.learn.implicit.validate import Score, Validation, ndcg

# where the search starts: what fits data of middling density
UNOBSERVED, PENALTY, EXPONENT = 0.1, 0.005, 1.0
# factors by which weight and penalty are changed, one after the other
STRIDES = (4.0, 2.0, math.sqrt(2.0))
# another rank is looked at around what the rank before ended with
STRIDES_OF_OTHER_RANKS = (2.0,)
RANKS = (32, 64, 128, 256, 512)
# the search starts at this one, if the rank is free
MIDDLE_RANK = 64
# sweeps between looks at the validation users, looks that better the score by less than this, and most sweeps
BETWEEN, PATIENCE, BETTER, MOST_SWEEPS = 4, 2, 0.002, 32


@dataclass(frozen=True)
class Setting:
    """What can be chosen; ``rank`` numbers in a vector."""

    rank: int
    weights: Weights


@dataclass(frozen=True, eq=False)
class Trial:
    """A setting, the sweeps after which the validation users' score was best, the score, and the seconds it took."""

    setting: Setting
    sweeps: int
    score: Score
    seconds: float


Report = Callable[[Trial], None]


class _Search:
    def __init__(self, validation: Validation, engine: Engine, seed: int, report: Report | None):
        self.validation, self.engine, self.seed, self.report = validation, engine, seed, report
        self.trials: dict[Setting, Trial] = {}

    def tried(self, setting: Setting) -> Trial:
        if setting not in self.trials:
            self.trials[setting] = self._try(setting, PATIENCE)
        return self.trials[setting]

    def ended(self, setting: Setting) -> tuple[Trial, list[Trial]]:
        """A setting tried to the last sweep, and every trial, this one last."""
        last = self._try(setting, MOST_SWEEPS)
        return last, [*self.trials.values(), last]

    def _try(self, setting: Setting, patience: int) -> Trial:
        trial = _trial(self.validation, setting, patience, self.engine, self.seed)
        if self.report is not None:
            self.report(trial)
        return trial

    def climbed(self, best: Trial, free: tuple[str, ...], strides: tuple[float, ...]) -> Trial:
        """The best setting that steps along one weight at a time lead to, ever shorter ones."""
        for stride in strides:
            moved = True
            while moved:
                moved = False
                for name in free:
                    for factor in (stride, 1 / stride):
                        weights = best.setting.weights
                        other = replace(best.setting, weights=_changed(weights, name, factor))
                        trial = self.tried(other)
                        if trial.score.mean > best.score.mean:
                            best, moved = trial, True
                            break
        return best


def choose(
    validation: Validation,
    engine: Engine,
    *,
    rank: int | None,
    unobserved: float | None,
    penalty: float | None,
    exponent: float,
    seed: int,
    report: Report | None = None,
) -> tuple[Trial, list[Trial]]:
    """The best setting, and every one that was tried, in order.

    Parameters
    ----------
    validation : Validation
    engine : Engine
    rank, unobserved, penalty : number or None
        None: to be chosen.
    exponent : float
    seed : int
    report : callable, optional
        Given every trial.

    Notes
    -----
    Weight and penalty are multiplied or divided by 4, one after the other, as long as NDCG@100 rises; then by 2, then
    by the root of 2. All of this is at rank 64, or a given one below; the weights of a given rank above are then looked
    for around those, in steps of 2. A free rank is doubled, up to 512, for as long as that raises the score by more
    than the standard error of the difference, user by user, and so are its weights found. If 128 is not better than 64
    by this measure, and 64 not better than 32, it is 32. A trial ends where two looks in a row hardly raise the score;
    the best setting is tried once more, to the end, to say how many sweeps are best.
    """
    search = _Search(validation, engine, seed, report)
    most = min(validation.train.by_user.levels, validation.train.by_item.levels)
    weights = Weights(
        UNOBSERVED if unobserved is None else unobserved, PENALTY if penalty is None else penalty, exponent
    )
    given = (("unobserved", unobserved), ("penalty", penalty))
    free = tuple(name for name, value in given if value is None)
    first = min(MIDDLE_RANK, most if rank is None else rank)
    best = search.climbed(search.tried(Setting(first, weights)), free, STRIDES)

    def at(other: int, strides: tuple[float, ...]) -> Trial:
        return search.climbed(search.tried(replace(best.setting, rank=other)), free, strides)

    if rank is not None:
        best = at(rank, STRIDES_OF_OTHER_RANKS)
        return search.ended(best.setting)
    for higher in (one for one in RANKS if first < one <= most):
        if not _clearly_better(at(higher, ()), best):
            break
        best = at(higher, STRIDES_OF_OTHER_RANKS)
    if best.setting.rank == first > RANKS[0]:
        lower = at(RANKS[0], STRIDES_OF_OTHER_RANKS)
        best = best if _clearly_better(best, lower) else lower
    return search.ended(best.setting)


def _trial(validation: Validation, setting: Setting, patience: int, engine: Engine, seed: int) -> Trial:
    begun = time.perf_counter()
    looks: list[tuple[int, Score]] = []
    without = 0

    def look(sweep: Sweep, factors: Factors) -> bool:
        nonlocal without
        if sweep.number % BETWEEN:
            return False
        score = ndcg(validation, setting.weights, factors.items, engine)
        rises = score.mean > (1 + BETTER) * max((before.mean for _, before in looks), default=0.0)
        without = 0 if rises else without + 1
        looks.append((sweep.number, score))
        return without >= patience

    factors = start_factors(validation.train, setting.rank, seed)
    minimise(validation.train, setting.weights, factors, engine, sweeps=MOST_SWEEPS, report=look)
    sweeps, score = max(looks, key=lambda one: one[1].mean)
    return Trial(setting, sweeps, score, time.perf_counter() - begun)


def _changed(weights: Weights, name: str, factor: float) -> Weights:
    # on a lattice, so that a step there and back ends where it began
    origin = UNOBSERVED if name == "unobserved" else PENALTY
    halves = round(2 * math.log2(getattr(weights, name) * factor / origin))
    return msgspec.structs.replace(weights, **{name: origin * 2 ** (halves / 2)})


def _clearly_better(one: Trial, other: Trial) -> bool:
    """By more than the standard error of the mean difference over the users."""
    difference = one.score.users - other.score.users
    return bool(difference.mean() > difference.std(ddof=1) / math.sqrt(len(difference)))
