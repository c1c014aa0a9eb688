"""Log-likelihoods of one row, written from the definitions, and their derivatives, with as many digits as asked."""

import mpmath as mp
import numpy as np


def cdf(link, x):
    if link == "logit":
        return 1 / (1 + mp.exp(-x))
    if link == "probit":
        return mp.erfc(-x / mp.sqrt(2)) / 2
    return -mp.expm1(-mp.exp(x))


def survival(link, x):
    return mp.exp(-mp.exp(x)) if link == "cloglog" else cdf(link, -x)


def log_interval(link, a, b):
    """log(F(b) - F(a)), where an end may be None for infinity."""
    if a is None:
        return mp.log(cdf(link, b))
    if b is None:
        return mp.log(survival(link, a))
    if a + b > 0:
        return mp.log(survival(link, a) - survival(link, b))
    return mp.log(cdf(link, b) - cdf(link, a))


def bernoulli(link, y, eta, n, phi):
    return n * mp.log(cdf(link, eta) if y else survival(link, eta))


def binomial(link, y, eta, n, phi):
    k = mp.nint(y * n)
    value = mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)
    value += k * mp.log(cdf(link, eta)) if k else 0
    return value + ((n - k) * mp.log(survival(link, eta)) if n - k else 0)


def poisson(link, y, eta, n, phi):
    return n * (y * eta - mp.exp(eta) - mp.loggamma(y + 1))


def negative_binomial(link, y, eta, n, phi):
    theta, mu = mp.exp(phi[0]), mp.exp(eta)
    value = mp.loggamma(y + theta) - mp.loggamma(theta) - mp.loggamma(y + 1)
    return n * (value + y * mp.log(mu / (mu + theta)) + theta * mp.log(theta / (mu + theta)))


def gamma(link, y, eta, n, phi):
    shape, mu = mp.exp(-phi[0]), mp.exp(eta)
    return n * (shape * mp.log(shape * y / mu) - shape * y / mu - mp.log(y) - mp.loggamma(shape))


def gaussian(link, y, eta, n, phi):
    variance = mp.exp(phi[0]) / n
    return -((y - eta) ** 2) / variance / 2 - mp.log(2 * mp.pi * variance) / 2


def ordinal(link, y, eta, n, phi, jacobian=None):
    tau = phi if jacobian is None else [mp.fdot(row, phi) for row in jacobian]
    k = int(y)
    lower = None if k == 0 else tau[k - 1] - eta
    upper = None if k == len(tau) else tau[k] - eta
    return n * log_interval(link, lower, upper)


LOGLIK = {f.__name__: f for f in (bernoulli, binomial, poisson, negative_binomial, gamma, gaussian, ordinal)}


def numbers(*values):
    return [mp.mpf(float(v)) for v in values]


def loglik(family, y, eta, weight, phi, digits=50, **extra):
    """Full log-likelihood of a row."""
    with mp.workdps(digits):
        y, eta, weight = numbers(y, eta, weight)
        return float(LOGLIK[family.name](family.link, y, eta, weight, numbers(*phi), **extra))


def by_eta(family, y, eta, weight, phi, digits=50, **extra):
    """First, minus second and third derivative by eta."""
    with mp.workdps(digits):
        y, eta, weight = numbers(y, eta, weight)
        phi = numbers(*phi)
        taylor = mp.taylor(lambda e: LOGLIK[family.name](family.link, y, e, weight, phi, **extra), eta, 3)
        return np.array([float(taylor[1]), float(-2 * taylor[2]), float(6 * taylor[3])])


def by_phi(family, y, eta, weight, phi, digits=50, **extra):
    """Derivatives of log-likelihood, score and weight by each parameter, shape (3, parameters); minus the Hessian."""
    with mp.workdps(digits):
        y, eta, weight = numbers(y, eta, weight)
        phi = numbers(*phi)
        m = len(phi)

        def f(e, *p):
            return LOGLIK[family.name](family.link, y, e, weight, list(p), **extra)

        unit = np.eye(m, dtype=int)
        first = np.array(
            [[float(mp.diff(f, (eta, *phi), (order, *unit[j].tolist()))) for j in range(m)] for order in range(3)]
        )
        first[2] *= -1
        second = [[-mp.diff(f, (eta, *phi), (0, *(unit[i] + unit[j]).tolist())) for j in range(m)] for i in range(m)]
        return first, np.array(second, dtype=float).reshape(m, m)
