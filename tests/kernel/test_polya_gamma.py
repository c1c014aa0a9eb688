"""Polya-Gamma draws against their Laplace transform, their cumulants and their distribution function."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.integrate import simpson
from scipy.interpolate import PchipInterpolator
from scipy.stats import kstest

from ranef.kernel.polya_gamma import LARGE, cumulants, polya_gamma

FloatArray = npt.NDArray[np.float64]
DRAWS = 60_000
SHAPES = [1.0, 3.0, 0.4, 2.5, LARGE - 1.0, LARGE, 1500.5]
TILTS = [0.0, 0.4, 1.7, 6.0, 30.0]


def _draws(b: float, z: float, seed: int, count: int = DRAWS) -> FloatArray:
    out = np.empty(count)
    polya_gamma(np.full(count, b), np.full(count, z), np.random.default_rng(seed), out)
    return out


def _log_transform(t: complex | FloatArray, b: float, z: float) -> FloatArray:
    """``log E exp(-t omega)``: minus ``b`` times the logarithm of a ratio of hyperbolic cosines."""
    root = np.sqrt(z * z / 4 + np.asarray(t) / 2)
    log_cosh = root + np.log1p(np.exp(-2 * root)) - np.log(2)
    return b * (abs(z) / 2 + np.log1p(np.exp(-abs(z))) - np.log(2) - log_cosh)


def _distribution(b: float, z: float) -> tuple[FloatArray, FloatArray]:
    """Points and the distribution function there, by inversion of the characteristic function (Gil-Pelaez 1951)."""
    mean, variance, _ = (b * c for c in cumulants(z))
    sd = np.sqrt(variance)
    x = mean + sd * np.linspace(-6, 10, 161)
    # of the standardised variable; its characteristic function falls like exp(-sqrt(s)) for small shapes
    s = np.linspace(1e-6, 300 / min(b, 4.0), 20_001)
    phi = np.exp(_log_transform(-1j * s / sd, b, z))
    return x, np.array([0.5 - simpson(np.imag(np.exp(-1j * s * one / sd) * phi) / s, x=s) / np.pi for one in x])


@pytest.mark.parametrize("z", TILTS)
@pytest.mark.parametrize("b", SHAPES)
def test_moments_and_transform(b: float, z: float) -> None:
    draws = _draws(b, z, 1)
    first, second, third = (b * c for c in cumulants(z))
    assert abs(draws.mean() - first) < 4 * np.sqrt(second / DRAWS)
    # fourth cumulant over the squared variance: at most 30 / (z b) or 6 / b
    spread = np.sqrt((2 + 6 / b + 30 / (b * max(z, 1.0))) / DRAWS)
    assert abs(draws.var() / second - 1) < 4 * spread
    centred = (draws - first) / np.sqrt(second)
    assert abs(np.mean(centred**3) - third / second**1.5) < 5 * np.std(centred**3) / np.sqrt(DRAWS)
    for t in (0.3 / first, 1 / first, 4 / first):
        values = np.exp(-t * draws)
        expected = np.exp(_log_transform(t, b, z))
        assert abs(values.mean() - expected) < 4 * np.std(values) / np.sqrt(DRAWS)


@pytest.mark.parametrize(
    ("b", "z"), [(1.0, 0.0), (1.0, 2.5), (1.0, 12.0), (2.0, 1.0), (0.6, 0.5), (7.5, 3.0), (40.0, 0.3)]
)
def test_the_distribution(b: float, z: float) -> None:
    x, cdf = _distribution(b, z)
    assert cdf[-1] > 1 - 1e-4
    found = kstest(_draws(b, z, 7), PchipInterpolator(x, cdf))
    assert found.pvalue > 1e-3


@pytest.mark.parametrize("z", [0.0, 2.0, 10.0])
def test_large_shapes_are_as_good_as_exact(z: float) -> None:
    x, cdf = _distribution(LARGE, z)
    draws = np.sort(_draws(LARGE, z, 3, 200_000))
    apart = np.abs(np.searchsorted(draws, x) / len(draws) - cdf).max()
    # the noise of as many draws
    assert apart < 1.95 / np.sqrt(len(draws))


def test_density_of_shape_one() -> None:
    """The other way to know the distribution of ``PG(1, z)``: the alternating series of its density."""
    z = 1.3
    x = np.linspace(1e-4, 6, 40_001)
    n = np.arange(60)[:, None]
    terms = (-1.0) ** n * (2 * n + 1) / np.sqrt(2 * np.pi * x**3) * np.exp(-((2 * n + 1) ** 2) / (8 * x))
    density = np.cosh(z / 2) * np.exp(-z * z * x / 2) * terms.sum(axis=0)
    cdf = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(x))])
    assert cdf[-1] == pytest.approx(1, abs=1e-4)
    assert kstest(_draws(1.0, z, 9), lambda v: np.interp(v, x, cdf)).pvalue > 1e-3


@pytest.mark.parametrize("z", [1e-9, 0.1, 0.45, 0.499999, 0.500001, 3.0, 50.0, 800.0])
def test_cumulants(z: float) -> None:
    mp = pytest.importorskip("mpmath")
    with mp.workdps(40):
        exact = [
            (-1) ** order * mp.diff(lambda t: -mp.log(mp.cosh(mp.sqrt(t / 2 + mp.mpf(z) ** 2 / 4))), 0, order)
            for order in (1, 2, 3)
        ]
        np.testing.assert_allclose(cumulants(z), [float(e) for e in exact], rtol=1e-6)


def test_extreme_tilts_and_shapes() -> None:
    out = np.empty(5)
    b, z = np.array([1.0, 1.0, 1e-3, 1e9, 3.0]), np.array([1e5, -1e5, 5.0, -3.0, -750.0])
    polya_gamma(b, z, np.random.default_rng(2), out)
    assert np.all(out > 0)
    np.testing.assert_allclose(out[:2], 1 / (2e5), rtol=0.1)
    assert out[3] == pytest.approx(1e9 * cumulants(3.0)[0], rel=1e-3)


def test_a_stream_gives_the_same_draws() -> None:
    np.testing.assert_array_equal(_draws(1.0, 0.5, 4, 100), _draws(1.0, 0.5, 4, 100))
