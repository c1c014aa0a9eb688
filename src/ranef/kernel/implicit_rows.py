"""Row updates of implicit feedback: conjugate gradients on the vectors of some levels, the other side's held fixed."""

from __future__ import annotations

import numpy as np
from numba import njit

# sums may be reordered, so that they are vectorised; NaN and infinities keep their meaning
_SUMS = {"reassoc", "contract", "nsz"}


@njit(nogil=True, cache=True, fastmath=_SUMS)
def improve_rows(
    first, last, starts, partners, confidence, unobserved, diagonal, penalty, other, vectors, steps, tolerance
):
    """Bring the vectors of the levels ``first <= g < last`` closer to their minimum, in place.

    The vector ``x`` of a level minimises ``x'(D + penalty I + sum c q q') x - 2 sum (c + w) q'x + sum (c + w)``, sums
    over the vectors ``q`` and confidences ``c`` of its partners; ``w`` is the unobserved weight and ``D`` that weight
    times the Gram matrix of ``other``, whose columns are such that it is diagonal. So a product with the matrix costs
    ``k`` for each partner and ``k`` besides, and its diagonal, which knows all that is not of the level's own partners,
    is a good preconditioner.

    Parameters
    ----------
    starts : int64 array, shape (levels + 1,)
    partners : int32 array, shape (pairs,)
        Rows of ``other``; those of level ``g`` are ``partners[starts[g]:starts[g + 1]]``.
    confidence : float32 array, shape (pairs,)
    unobserved : float32
    diagonal : float32 array, shape (k,)
        Of ``D``.
    penalty : float32 array, shape (levels,)
    other : float32 array, shape (levels of the other side, k)
    vectors : float32 array, shape (levels, k)
        Where the iterations start; overwritten.
    steps : int
        At most.
    tolerance : float32
        Enough when the squared norm of the error is below this times that of ``x``, in the preconditioner's metric.

    Returns
    -------
    float
        The sum of the levels' minimands, float64.
    """
    k = other.shape[1]
    longest = 0
    for g in range(first, last):
        longest = max(longest, starts[g + 1] - starts[g])
    panel = np.empty((longest, k), np.float32)
    fitted = np.empty(longest, np.float32)
    along = np.empty(longest, np.float32)
    own = np.empty(k, np.float32)
    scale = np.empty(k, np.float32)
    x = np.empty(k, np.float32)
    residual = np.empty(k, np.float32)
    direction = np.empty(k, np.float32)
    image = np.empty(k, np.float32)
    zero = np.float32(0.0)
    loss = 0.0
    for g in range(first, last):
        start = starts[g]
        n = starts[g + 1] - start
        fours = n - n % 4
        for c in range(k):
            x[c] = vectors[g, c]
            own[c] = diagonal[c] + penalty[g]
            scale[c] = own[c]
            residual[c] = -own[c] * x[c]
        # four partners at a time: the sums over them are loaded and stored once
        for j in range(0, fours, 4):
            p0, p1 = partners[start + j], partners[start + j + 1]
            p2, p3 = partners[start + j + 2], partners[start + j + 3]
            s0, s1, s2, s3 = zero, zero, zero, zero
            for c in range(k):
                q0, q1, q2, q3 = other[p0, c], other[p1, c], other[p2, c], other[p3, c]
                panel[j, c], panel[j + 1, c], panel[j + 2, c], panel[j + 3, c] = q0, q1, q2, q3
                s0 += q0 * x[c]
                s1 += q1 * x[c]
                s2 += q2 * x[c]
                s3 += q3 * x[c]
            fitted[j], fitted[j + 1], fitted[j + 2], fitted[j + 3] = s0, s1, s2, s3
            c0, c1 = confidence[start + j], confidence[start + j + 1]
            c2, c3 = confidence[start + j + 2], confidence[start + j + 3]
            s0 = c0 + unobserved - c0 * s0
            s1 = c1 + unobserved - c1 * s1
            s2 = c2 + unobserved - c2 * s2
            s3 = c3 + unobserved - c3 * s3
            for c in range(k):
                q0, q1, q2, q3 = panel[j, c], panel[j + 1, c], panel[j + 2, c], panel[j + 3, c]
                residual[c] += s0 * q0 + s1 * q1 + s2 * q2 + s3 * q3
                scale[c] += c0 * q0 * q0 + c1 * q1 * q1 + c2 * q2 * q2 + c3 * q3 * q3
        for j in range(fours, n):
            p0, c0 = partners[start + j], confidence[start + j]
            s0 = zero
            for c in range(k):
                q0 = other[p0, c]
                panel[j, c] = q0
                s0 += q0 * x[c]
            fitted[j] = s0
            s0 = c0 + unobserved - c0 * s0
            for c in range(k):
                q0 = panel[j, c]
                residual[c] += s0 * q0
                scale[c] += c0 * q0 * q0
        size = zero
        for c in range(k):
            direction[c] = residual[c] / scale[c]
            size += residual[c] * direction[c]
        for _ in range(steps):
            norm = zero
            for c in range(k):
                norm += scale[c] * x[c] * x[c]
            if size <= tolerance * norm or size == zero:
                break
            for c in range(k):
                image[c] = own[c] * direction[c]
            for j in range(0, fours, 4):
                s0, s1, s2, s3 = zero, zero, zero, zero
                for c in range(k):
                    s0 += panel[j, c] * direction[c]
                    s1 += panel[j + 1, c] * direction[c]
                    s2 += panel[j + 2, c] * direction[c]
                    s3 += panel[j + 3, c] * direction[c]
                along[j], along[j + 1], along[j + 2], along[j + 3] = s0, s1, s2, s3
                s0 *= confidence[start + j]
                s1 *= confidence[start + j + 1]
                s2 *= confidence[start + j + 2]
                s3 *= confidence[start + j + 3]
                for c in range(k):
                    image[c] += s0 * panel[j, c] + s1 * panel[j + 1, c] + s2 * panel[j + 2, c] + s3 * panel[j + 3, c]
            for j in range(fours, n):
                s0 = zero
                for c in range(k):
                    s0 += panel[j, c] * direction[c]
                along[j] = s0
                s0 *= confidence[start + j]
                for c in range(k):
                    image[c] += s0 * panel[j, c]
            curvature = zero
            for c in range(k):
                curvature += direction[c] * image[c]
            length = size / curvature
            for j in range(n):
                fitted[j] += length * along[j]
            before = size
            size = zero
            for c in range(k):
                x[c] += length * direction[c]
                residual[c] -= length * image[c]
                size += residual[c] * residual[c] / scale[c]
            ratio = size / before
            for c in range(k):
                direction[c] = residual[c] / scale[c] + ratio * direction[c]
        value = 0.0
        for c in range(k):
            value += np.float64(own[c]) * np.float64(x[c]) * np.float64(x[c])
            vectors[g, c] = x[c]
        for j in range(n):
            weight, score = np.float64(confidence[start + j]), np.float64(fitted[j])
            value += weight * score * score + (weight + unobserved) * (1.0 - 2.0 * score)
        loss += value
    return loss
