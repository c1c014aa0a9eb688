"""Sparse rows times several sides: some neighbouring sides at a time in one vector register.

Numba's compiler does not find these vectors itself: it runs no vectorizer over straight-line code, and a loop over so
few sides is unrolled before its loop vectorizer sees it. The loops over a row's entries are therefore written in LLVM's
language; a side gets the same bits whatever stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

FUSED = ("contract",)
# a row of so many sides is one line of the cache
WIDEST = 8
NARROW = WIDEST // 2


def splat(builder, number, vector):
    """A number in every lane of a vector of this type."""
    empty = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(empty, number, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, empty, lanes)


class _Panel:
    """Builds code on ``width`` neighbouring sides of rows of matrices, from the sixth argument and side ``s`` on.

    The arguments of either intrinsic are ``values, at, columns, start, m, matrix, s, vector, sign``.
    """

    def __init__(self, context, builder, signature, arguments, width):
        self.builder, self.arguments, self.width = builder, arguments, width
        self.vector = ir.VectorType(ir.DoubleType(), width)
        arrays = {i: context.make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 2, 5, 7)}
        self.values, self.columns, self.matrix, self.sides = (arrays[i].data for i in (0, 2, 5, 7))
        self.stride = cgutils.unpack_tuple(builder, arrays[5].shape)[1]

    def own(self):
        """Where the vector's sides are."""
        return self._pointer(self.sides, self.arguments[6])

    def splat(self, number):
        return splat(self.builder, number, self.vector)

    def load(self, pointer):
        return self.builder.load(pointer, align=8)

    def store(self, value, pointer):
        self.builder.store(value, pointer, align=8)

    def plus(self, total, a, b):
        """``total + a b``."""
        return self.builder.fadd(total, self.builder.fmul(a, b, flags=FUSED), flags=FUSED)

    @contextmanager
    def entries(self) -> Iterator[tuple[object, object]]:
        """A loop over the entries: each one's value in every lane, and where its row of the matrix is."""
        builder = self.builder
        with cgutils.for_range(builder, self.arguments[4]) as loop:
            value = builder.load(builder.gep(self.values, [builder.add(self.arguments[1], loop.index)]))
            column = builder.load(builder.gep(self.columns, [builder.add(self.arguments[3], loop.index)]))
            row = builder.mul(builder.zext(column, ir.IntType(64)), self.stride)
            yield self.splat(value), self._pointer(self.matrix, builder.add(row, self.arguments[6]))

    def _pointer(self, data, index):
        return self.builder.bitcast(self.builder.gep(data, [index]), self.vector.as_pointer())


def _signature(values, at, columns, start, m, matrix, s, vector, sign):
    arrays = (values, columns, matrix, vector)
    if any(array.layout != "C" for array in arrays) or columns.dtype != types.int32:
        return None
    whole = types.int64
    return types.void(values, whole, columns, whole, whole, matrix, whole, vector, types.float64)


def _gather(width):
    @intrinsic
    def gather_panel(typing, values, at, columns, start, m, x, s, out, sign):
        def code(context, builder, signature, arguments):
            panel = _Panel(context, builder, signature, arguments, width)
            total = cgutils.alloca_once_value(builder, ir.Constant(panel.vector, [0.0] * width))
            with panel.entries() as (value, row):
                builder.store(panel.plus(builder.load(total), value, panel.load(row)), total)
            to = panel.own()
            panel.store(panel.plus(panel.load(to), panel.splat(arguments[8]), builder.load(total)), to)
            return context.get_dummy_value()

        signature = _signature(values, at, columns, start, m, x, s, out, sign)
        return None if signature is None else (signature, code)

    return gather_panel


def _scatter(width):
    @intrinsic
    def scatter_panel(typing, values, at, columns, start, m, out, s, x, sign):
        def code(context, builder, signature, arguments):
            panel = _Panel(context, builder, signature, arguments, width)
            what = builder.fmul(panel.splat(arguments[8]), panel.load(panel.own()))
            with panel.entries() as (value, row):
                panel.store(panel.plus(panel.load(row), value, what), row)
            return context.get_dummy_value()

        signature = _signature(values, at, columns, start, m, out, s, x, sign)
        return None if signature is None else (signature, code)

    return scatter_panel


_gather_8, _gather_4, _gather_2, _gather_1 = (_gather(width) for width in (8, 4, 2, 1))
_scatter_8, _scatter_4, _scatter_2, _scatter_1 = (_scatter(width) for width in (8, 4, 2, 1))


@njit(nogil=True, cache=True)
def gather(sign, at, start, m, values, columns, x, out):
    """Add ``sign * sum_j values[at + j] x[columns[start + j]]`` to ``out`` (sides,); ``x`` (columns, sides)."""
    sides = x.shape[1]
    s = 0
    while s + 8 <= sides:
        _gather_8(values, at, columns, start, m, x, s, out, sign)
        s += 8
    if sides & 4:
        _gather_4(values, at, columns, start, m, x, s, out, sign)
        s += 4
    if sides & 2:
        _gather_2(values, at, columns, start, m, x, s, out, sign)
        s += 2
    if sides & 1:
        _gather_1(values, at, columns, start, m, x, s, out, sign)


@njit(nogil=True, cache=True)
def scatter(sign, at, start, m, values, columns, x, out):
    """Add ``sign * values[at + j] x`` to each row ``columns[start + j]`` of ``out``; ``x`` (sides,)."""
    sides = out.shape[1]
    s = 0
    while s + 8 <= sides:
        _scatter_8(values, at, columns, start, m, out, s, x, sign)
        s += 8
    if sides & 4:
        _scatter_4(values, at, columns, start, m, out, s, x, sign)
        s += 4
    if sides & 2:
        _scatter_2(values, at, columns, start, m, out, s, x, sign)
        s += 2
    if sides & 1:
        _scatter_1(values, at, columns, start, m, out, s, x, sign)
