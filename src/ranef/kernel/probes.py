"""Random signs of the rows, summed by level. A row's signs depend on its number and the seed alone."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ranef.kernel.panels import WIDEST, splat


@njit(nogil=True, cache=True)
def signs(row, seed):
    """64 random bits of a row (SplitMix64; Steele, Lea and Flood 2014)."""
    h = np.uint64(row) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@njit(nogil=True, cache=True)
def sign_words(rows, seed, out):
    """The bits of the rows of these numbers in words of 32, shape (rows, words): bit ``s`` is probe ``s``'s sign."""
    for n in range(rows.shape[0]):
        bits = signs(rows[n], seed)
        for w in range(out.shape[1]):
            out[n, w] = np.int32(np.uint32((bits >> np.uint64(32 * w)) & np.uint64(0xFFFFFFFF)))


@intrinsic
def _add_panel(typing, sums, row, s, word, value):
    """Add ``value``, or minus it where a bit of ``word`` is 0, to the sides of the panel from ``sums[row, s]`` on."""
    if sums.layout != "C":
        return None

    def code(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        row, s, word, value = arguments[1:]
        begin = builder.add(builder.mul(row, cgutils.unpack_tuple(builder, array.shape)[1]), s)
        reals, bits = (ir.VectorType(of, WIDEST) for of in (ir.DoubleType(), ir.IntType(64)))
        place = builder.bitcast(builder.gep(array.data, [begin]), reals.as_pointer())
        # each lane's bit is brought to where a real has its sign
        shifts = ir.Constant(bits, [63 - lane for lane in range(WIDEST)])
        turned = builder.not_(builder.shl(splat(builder, builder.zext(word, ir.IntType(64)), bits), shifts))
        sign = builder.and_(turned, ir.Constant(bits, [1 << 63] * WIDEST))
        number = builder.xor(builder.bitcast(splat(builder, value, reals), bits), sign)
        builder.store(builder.fadd(builder.load(place, align=8), builder.bitcast(number, reals)), place, align=8)
        return context.get_dummy_value()

    return types.void(sums, types.int64, types.int64, types.uint32, types.float64), code


@njit(nogil=True, cache=True)
def add_signs(levels, words, z, out):
    """Add ``z_n e_n'`` of every row to its level's ``out[level]``, shape (k, probes).

    Parameters
    ----------
    levels : int32 array, shape (rows,)
    words : int32 array, shape (rows, words)
        From `sign_words`.
    z : float64 array, shape (rows, k)
    out : float64 array, shape (levels, k, probes)
    """
    k = z.shape[1]
    probes = out.shape[2]
    sums = out.reshape(-1, probes)
    for n in range(levels.shape[0]):
        for a in range(k):
            row = np.int64(levels[n]) * k + a
            value = z[n, a]
            s = 0
            while s + WIDEST <= probes:
                # a panel never crosses the end of a word
                _add_panel(sums, row, s, np.uint32(words[n, s >> 5]) >> np.uint32(s & 31), value)
                s += WIDEST
            while s < probes:
                # branch-free sign from one bit
                bit = (np.uint32(words[n, s >> 5]) >> np.uint32(s & 31)) & np.uint32(1)
                sums[row, s] += value * (2.0 * np.float64(bit) - 1.0)
                s += 1
