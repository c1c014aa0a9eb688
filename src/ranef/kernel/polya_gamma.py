"""Draws from Polya-Gamma distributions: ``PG(b, z)`` has the density of ``PG(b, 0)`` times ``exp(-z^2 omega / 2)``.

``PG(1, z)`` exactly, by the alternating series of Devroye (Polson, Scott and Windle 2013, J. Am. Stat. Assoc. 108).
Whole shapes are sums of those. What a shape has beyond a whole number is a sum of gammas, cut after many terms, the
rest a gamma of its mean and variance. Large shapes are nearly normal and come from a shifted gamma with the right first
three cumulants; the fourth, then of size 6 / shape, is at most a tenth off.
"""

from __future__ import annotations

import math

from numba import njit

# where the two series of the density meet
CUT = 0.64
# shapes from here on are drawn from three cumulants
LARGE = 170.0
# gammas in the sum for a fraction of a shape
TERMS = 64


@njit(nogil=True, cache=True)
def _series(n, x):
    """Term ``n`` of the alternating series for the density of ``J*(1, 0)``."""
    k = n + 0.5
    if x > CUT:
        return math.pi * k * math.exp(-0.5 * k * k * math.pi * math.pi * x)
    return math.pi * k * (2.0 / (math.pi * x)) ** 1.5 * math.exp(-2.0 * k * k / x)


@njit(nogil=True, cache=True)
def _below(z, rng):
    """An inverse Gaussian of mean ``1 / z`` and shape 1, given that it is below ``CUT``."""
    if z * CUT < 1.0:
        while True:
            e = rng.standard_exponential()
            while e * e > 2.0 * rng.standard_exponential() / CUT:
                e = rng.standard_exponential()
            x = 1.0 + CUT * e
            x = CUT / (x * x)
            if rng.random() <= math.exp(-0.5 * z * z * x):
                return x
    mean = 1.0 / z
    while True:
        y = rng.standard_normal()
        y = y * y
        # the smaller root, without cancellation
        x = 2.0 * mean / (2.0 + mean * y + math.sqrt(4.0 * mean * y + mean * mean * y * y))
        if rng.random() * (mean + x) > mean:
            x = mean * mean / x
        if x <= CUT:
            return x


@njit(nogil=True, cache=True)
def _one(z, share, rate, rng):
    """``PG(1, 2 z)`` for ``z >= 0``; ``share`` and ``rate`` are those of the exponential tail."""
    while True:
        if rng.random() < share:
            x = CUT + rng.standard_exponential() / rate
        else:
            x = _below(z, rng)
        total = _series(0, x)
        y = rng.random() * total
        n = 0
        while True:
            n += 1
            total -= _series(n, x)
            if y <= total:
                return 0.25 * x
            n += 1
            total += _series(n, x)
            if y > total:
                break


@njit(nogil=True, cache=True)
def _tail_share(z, rate):
    """Probability that a proposal for ``PG(1, 2 z)`` is from the exponential tail."""
    # both parts times exp(z)
    root = math.sqrt(0.5 / CUT)
    below = math.erfc(root * (1.0 - CUT * z))
    if z < 30.0:
        below += math.exp(2.0 * z) * math.erfc(root * (1.0 + CUT * z))
    above = 0.5 * math.pi / rate * math.exp(z - CUT * rate)
    return above / (above + below)


@njit(nogil=True, cache=True)
def _fraction(b, z, rng):
    """``PG(b, z)`` for ``0 < b < 1``, by its series of gammas."""
    shift = z * z / (4.0 * math.pi * math.pi)
    total = 0.0
    mean = 0.0
    variance = 0.0
    for k in range(TERMS):
        weight = 1.0 / ((k + 0.5) * (k + 0.5) + shift)
        total += weight * rng.standard_gamma(b)
        mean += weight
        variance += weight * weight
    scale = 1.0 / (2.0 * math.pi * math.pi)
    first, second, _ = cumulants(z)
    mean = b * (first - scale * mean)
    variance = b * (second - scale * scale * variance)
    return scale * total + variance / mean * rng.standard_gamma(mean * mean / variance)


@njit(nogil=True, cache=True)
def cumulants(z):
    """First three cumulants of ``PG(1, z)``."""
    z = abs(z)
    if z < 0.5:
        # power series of derivatives of log cosh: the formulas below cancel
        s = z * z
        first = 0.25 - s * (1.0 / 48.0 - s * (1.0 / 480.0 - s * (17.0 / 80640.0 - s * 31.0 / 1451520.0)))
        second = 1.0 / 24.0 - s * (1.0 / 120.0 - s * (17.0 / 13440.0 - s * (31.0 / 181440.0 - s * 691.0 / 31933440.0)))
        third = 1.0 / 60.0 - s * (17.0 / 3360.0 - s * (31.0 / 30240.0 - s * (691.0 / 3991680.0 - s * 2.6706e-5)))
        return first, second, third
    tanh = math.tanh(0.5 * z)
    rest = 1.0 - tanh * tanh
    # derivatives of log cosh(z / 2) by z, then by z^2 / 2
    one = 0.5 * tanh
    two = 0.25 * rest
    three = -0.25 * tanh * rest
    first = one / z
    second = (first - two) / (z * z)
    third = (three / z - 3.0 * two / (z * z) + 3.0 * first / (z * z)) / (z * z)
    return first, second, third


@njit(nogil=True, cache=True)
def polya_gamma(b, z, rng, out):
    """Draw ``PG(b_n, z_n)`` for every row.

    Parameters
    ----------
    b : float64 array, shape (rows,)
        Positive shapes.
    z : float64 array, shape (rows,)
    rng : numpy.random.Generator
        Advanced.
    out : float64 array, shape (rows,)
    """
    for n in range(len(out)):
        shape = b[n]
        if shape >= LARGE:
            first, second, third = cumulants(z[n])
            # a gamma of shape 4 / skewness^2, scaled and shifted
            scale = 0.5 * third / second
            alpha = shape * second / (scale * scale)
            out[n] = shape * first + scale * (rng.standard_gamma(alpha) - alpha)
            continue
        whole = int(shape)
        half = 0.5 * abs(z[n])
        total = 0.0
        if whole > 0:
            rate = math.pi * math.pi / 8.0 + 0.5 * half * half
            share = _tail_share(half, rate)
            for _ in range(whole):
                total += _one(half, share, rate, rng)
        if shape > whole:
            total += _fraction(shape - whole, z[n], rng)
        out[n] = total
