"""Perfect samples: right-hand sides whose solutions have the inverse of the system as their covariance.

With a random sign ``e_n`` for each row and standard normal ``eps`` for each coefficient, the solution of
``C x = [X'; Lambda'Z'] W^{1/2} e + [0; eps]`` has covariance ``C^-1`` (Papandreou and Yuille 2010). The probes are
drawn once and kept for all iterations: the estimating function is then a smooth, deterministic one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.design.pieces import CodeColumns, Derived, Numbers, is_constant
from ranef.engine.threads import Engine
from ranef.kernel.probes import add_signs, sign_words
from ranef.solve.cross_products import CrossProducts
from ranef.solve.elimination import Coefficients, from_blocks
from ranef.solve.order import Ordered, ordered_alone, rows_of_levels
from ranef.solve.rows import CodeArray, Rows
from ranef.solve.shares import ROWS_A_CHUNK, Share, shares

FloatArray = npt.NDArray[np.float64]

# signs in a word
WORD = 32


@dataclass(frozen=True, eq=False)
class Probes:
    """``count`` probes side by side.

    Attributes
    ----------
    data : Coefficients
        ``[Z'; X'] W^{1/2} e``, raw coordinates.
    noise : Coefficients
        ``eps``, spherical coordinates.
    """

    count: int
    data: Coefficients
    noise: Coefficients

    def first(self, count: int) -> Probes:
        """The first few of them."""
        data, noise = (
            Coefficients(tuple(s[:, :, :count] for s in part.stages), part.rest[:, :count])
            for part in (self.data, self.noise)
        )
        return Probes(count, data, noise)


def draw_probes(rows: Rows, cross: CrossProducts, engine: Engine, count: int, seed: int) -> Probes:
    """Draw probes; at most 64."""
    key = np.uint64(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    words = Derived((len(rows.y), -(-count // WORD)), lambda numbers: _words(numbers, count, key))
    sums, noise = [], []
    by_unit = rows.by_unit
    for b, (block, counts) in enumerate(zip(by_unit.blocks, rows_of_levels(by_unit.blocks, engine), strict=True)):
        sums.append(_by_level(by_unit, ordered_alone(block, b, counts), words, count, engine))
        membership = rows.blocks[b].membership
        if membership is not None:
            sums[-1] = membership.level_sums(sums[-1], rows.blocks[b].levels)
        stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, b)))
        noise.append(stream.standard_normal(sums[-1].shape))
    data = from_blocks(cross, sums, count)
    data.rest[cross.random : cross.random + cross.fixed] = _by_column(rows, words, count, engine)
    return Probes(count, data, from_blocks(cross, noise, count))


def _words(numbers: Numbers, count: int, key: np.uint64) -> CodeArray:
    rows = np.arange(numbers.start, numbers.stop) if isinstance(numbers, slice) else numbers
    out = np.empty((len(rows), -(-count // WORD)), np.int32)
    sign_words(rows, key, out)
    return out


def _by_level(rows: Rows, factor: Ordered, words: CodeColumns, count: int, engine: Engine) -> FloatArray:
    """``Z' W^{1/2} e`` of one factor, shape (levels, k, probes)."""
    covariates, root = rows.blocks[factor.block].covariates, rows.root_weights
    constant = is_constant(covariates)
    bring = [*([] if constant else [covariates]), *([] if root is None else [root])]
    k = covariates.shape[1]
    out = np.zeros((len(factor.old), k, count))

    def add(share: Share, first: int, last: int) -> None:
        place = slice(factor.pointers[first] - share.origin, factor.pointers[last] - share.origin)
        reals = share.reals[place]
        z = np.tile(covariates[0:1], (len(reals), 1)) if constant else np.ascontiguousarray(reals[:, :k])
        if root is not None:
            z *= reals[:, -1:]
        add_signs(share.own[place], share.codes[place], z, out)

    for share in shares(factor.codes, factor.pointers, factor.partitions, [words], bring, engine):
        engine.map(add, [(share, first, last) for first, last in share.partitions])
        # before the next share takes its place
        del share
    return out


def _by_column(rows: Rows, words: CodeColumns, count: int, engine: Engine) -> FloatArray:
    """``X' W^{1/2} e``, shape (p, probes)."""
    root = rows.root_weights

    def product(first: int, last: int) -> FloatArray:
        piece = slice(first, last)
        x = rows.x[piece] if root is None else rows.x[piece] * root[piece]
        out = np.zeros((1, x.shape[1], count))
        add_signs(np.zeros(len(x), np.int32), words[piece], np.ascontiguousarray(x), out)
        return np.asarray(out[0])

    pieces = [(start, min(start + ROWS_A_CHUNK, len(words))) for start in range(0, len(words), ROWS_A_CHUNK)]
    return sum(engine.each(pieces, product), np.zeros((rows.x.shape[1], count)))
