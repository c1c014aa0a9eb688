"""Blocks of eight float32 numbers, one vector register each: what the sums over a level's units are made of.

Numba's compiler does not make vectors of loops of a known small length (see `ranef.kernel.panels`), so the step of one
row of a triangular matrix is written in LLVM's language.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ranef.kernel.panels import FUSED, splat

BLOCK = 8
# units that are added in one pass over the sums
TOGETHER = 8
_VECTOR = ir.VectorType(ir.FloatType(), BLOCK)


@intrinsic
def add_row(typing, matrices, units, at, count, moves, factors, sums):
    """One row ``h`` of `TOGETHER` units' matrices, and as much ``m`` of their moves, added to three sums.

    Parameters
    ----------
    matrices : float32 array, shape (units, blocks, 8)
    units : int64 array, shape (`TOGETHER`,)
    at, count : int
        The row's first block, and how many it has; those of the moves are counted from zero.
    moves : float32 array, shape (units, blocks of a row, 8)
    factors : float32 array, shape (3, `TOGETHER`)
        For each unit a weight, its square, and another number.
    sums : float32 array, shape (3, blocks, 8)
        At the row's blocks the first is added ``square h``, the second ``weight m h``, the third the number times
        ``h``.
    """
    blocks = (matrices, moves, sums)
    if any(array.layout != "C" or array.dtype != types.float32 or array.ndim != 3 for array in blocks):
        return None
    if units.dtype != types.int64 or factors.dtype != types.float32 or factors.layout != "C":
        return None

    def code(context, builder, signature, arguments):
        own = {i: context.make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 1, 4, 5, 6)}

        def whole(number):
            return ir.Constant(ir.IntType(64), number)

        def pointer(array, first, second):
            rows = cgutils.unpack_tuple(builder, array.shape)[1]
            index = builder.mul(builder.add(builder.mul(first, rows), second), whole(BLOCK))
            return builder.bitcast(builder.gep(array.data, [index]), _VECTOR.as_pointer())

        def times(a, b):
            return builder.fmul(a, b, flags=FUSED)

        at, count = arguments[2], arguments[3]
        to = [pointer(own[6], whole(part), at) for part in range(3)]
        # all that does not change along the row
        parts = []
        for n in range(TOGETHER):
            unit = builder.load(builder.gep(own[1].data, [whole(n)]))
            numbers = [
                splat(builder, builder.load(builder.gep(own[5].data, [whole(part * TOGETHER + n)])), _VECTOR)
                for part in range(3)
            ]
            parts.append((pointer(own[0], unit, at), pointer(own[4], unit, whole(0)), *numbers))
        with cgutils.for_range(builder, count) as loop:

            def here(start):
                return builder.gep(start, [loop.index])

            totals = [builder.load(here(one), align=4) for one in to]
            for h_start, m_start, weight, square, other in parts:
                h, m = builder.load(here(h_start), align=4), builder.load(here(m_start), align=4)
                for part, factor in enumerate((square, times(weight, m), other)):
                    totals[part] = builder.fadd(totals[part], times(factor, h), flags=FUSED)
            for one, total in zip(to, totals, strict=True):
                builder.store(total, here(one), align=4)
        return context.get_dummy_value()

    return types.void(matrices, units, types.int64, types.int64, moves, factors, sums), code
