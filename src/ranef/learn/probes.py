"""Perfect samples: right-hand sides whose solutions have the inverse of the system as their covariance.

With a random sign ``e_n`` for each row and standard normal ``eps`` for each coefficient, the solution of
``C x = [X'; Lambda'Z'] W^{1/2} e + [0; eps]`` has covariance ``C^-1`` (Papandreou and Yuille 2010). The probes are
drawn once and kept for all iterations: the estimating function is then a smooth, deterministic one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine
from ranef.kernel.probes import sum_signs
from ranef.kernel.sort import counting_order
from ranef.solve.cross_products import CrossProducts, Rows, partition
from ranef.solve.elimination import Coefficients, from_blocks

FloatArray = npt.NDArray[np.float64]


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


def draw_probes(rows: Rows, cross: CrossProducts, engine: Engine, count: int, seed: int) -> Probes:
    """Draw probes; at most 64."""
    root = None if rows.weights is None else np.sqrt(rows.weights)
    sequence = np.random.SeedSequence(seed)
    key = int(sequence.generate_state(1, np.uint64)[0])
    sums, noise = [], []
    dense = np.zeros((cross.fixed, count))
    for b, block in enumerate(rows.blocks):
        order, pointers = counting_order(block.codes, block.levels)
        out = np.empty((block.levels, block.size, count))

        def add(
            first: int,
            last: int,
            covariates: FloatArray = block.covariates,
            order: npt.NDArray[np.int64] = order,
            pointers: npt.NDArray[np.int64] = pointers,
            out: FloatArray = out,
        ) -> None:
            take = order[pointers[first] : pointers[last]]
            z = covariates[take]
            if root is not None:
                z = z * root[take, None]
            sum_signs(first, last, int(pointers[first]), pointers, take, z, np.uint64(key), out)

        engine.each(partition(pointers), add)
        sums.append(out)
        stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, b)))
        noise.append(stream.standard_normal(out.shape))
    if cross.fixed:
        # in blocks of rows: each is one "level" with the fixed effects as covariates
        edges = np.append(np.arange(0, len(rows.y), 65_536), len(rows.y))
        partial = np.empty((len(edges) - 1, cross.fixed, count))

        def add_dense(first: int, last: int) -> None:
            take = np.arange(edges[first], edges[last])
            x = rows.x[edges[first] : edges[last]]
            if root is not None:
                x = x * root[take, None]
            sum_signs(first, last, int(edges[first]), edges, take, np.ascontiguousarray(x), np.uint64(key), partial)

        engine.each([(i, i + 1) for i in range(len(edges) - 1)], add_dense)
        dense = partial.sum(axis=0)
    data = from_blocks(cross, sums, count)
    data.rest[cross.random : cross.random + cross.fixed] = dense
    return Probes(count, data, from_blocks(cross, noise, count))
