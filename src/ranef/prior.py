"""Covariance structures of a random term: parameters -> relative covariance factor ``Lambda``, and back.

Parameters ``theta`` are the free entries of the lower triangular ``Lambda`` (Bates et al. 2015, section 2.2),
column by column; a covariance is ``sigma^2 Lambda Lambda'``. All terms on one grouping factor form one block-diagonal
``Lambda``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Kind = Literal["full", "diagonal", "identity"]


@dataclass(frozen=True)
class Structure:
    """The covariance structure of one term with ``size`` coefficients a level."""

    kind: Kind
    size: int

    @cached_property
    def basis(self) -> FloatArray:
        """Derivatives of ``Lambda`` by each parameter, shape (parameters, size, size): ``Lambda`` is linear in them."""
        k = self.size
        if self.kind == "identity":
            return np.eye(k)[None]
        places = [(i, j) for j in range(k) for i in range(j, k) if self.kind == "full" or i == j]
        basis = np.zeros((len(places), k, k))
        for parameter, (i, j) in enumerate(places):
            basis[parameter, i, j] = 1.0
        return basis

    def project(self, covariance: FloatArray) -> FloatArray:
        """Parameters of the nearest covariance of this structure: entries that the structure lacks are left out."""
        if self.kind == "identity":
            return np.array([np.sqrt(max(float(np.mean(np.diag(covariance))), 0.0))])
        if self.kind == "diagonal":
            return np.sqrt(np.maximum(np.diag(covariance), 0.0))
        return np.array([factor_of(covariance)[i, j] for j in range(self.size) for i in range(j, self.size)])


def factor_of(covariance: FloatArray) -> FloatArray:
    """Lower triangular factor of a positive semi-definite matrix; zero columns where it is singular."""
    k = len(covariance)
    factor = np.zeros((k, k))
    tiny = 1e-14 * np.diag(covariance).clip(0)
    for j in range(k):
        rest = covariance[j:, j] - factor[j:, :j] @ factor[j, :j]
        if rest[0] > tiny[j]:
            factor[j:, j] = rest / np.sqrt(rest[0])
    return factor


@dataclass(frozen=True)
class Layout:
    """Where the parameters of every term of every grouping factor are in ``theta``.

    Attributes
    ----------
    blocks : tuple of tuple of Structure
        For each grouping factor, the structures of its terms in order.
    """

    blocks: tuple[tuple[Structure, ...], ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Coefficients a level of each grouping factor."""
        return tuple(sum(s.size for s in terms) for terms in self.blocks)

    @cached_property
    def basis(self) -> tuple[FloatArray, ...]:
        """For each grouping factor, ``dLambda / dtheta`` over its own parameters, shape (parameters, k, k)."""
        out = []
        for terms, k in zip(self.blocks, self.sizes, strict=True):
            parts = []
            at = 0
            for structure in terms:
                basis = np.zeros((len(structure.basis), k, k))
                basis[:, at : at + structure.size, at : at + structure.size] = structure.basis
                parts.append(basis)
                at += structure.size
            out.append(np.concatenate(parts))
        return tuple(out)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Parameters of each grouping factor within ``theta``."""
        bounds = np.cumsum([0, *(len(b) for b in self.basis)])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(bounds))

    @property
    def parameters(self) -> int:
        return self.slices[-1].stop if self.slices else 0

    def factors(self, theta: FloatArray) -> tuple[FloatArray, ...]:
        """``Lambda`` of each grouping factor, shape (k, k)."""
        return tuple(np.tensordot(theta[s], b, 1) for s, b in zip(self.slices, self.basis, strict=True))

    def canonical(self, theta: FloatArray) -> FloatArray:
        """The same covariances with no negative number on the diagonal of ``Lambda``: its columns may change sign."""
        out = theta.copy()
        for part, basis, factor in zip(self.slices, self.basis, self.factors(theta), strict=True):
            signs = np.where(np.diag(factor) < 0, -1.0, 1.0)
            # every parameter moves entries of columns that turn together
            out[part] *= signs[np.argmax(np.abs(basis).max(axis=1), axis=1)]
        return out

    def project(self, covariances: Sequence[FloatArray]) -> FloatArray:
        """``theta`` of the given relative covariances, one (k, k) matrix a grouping factor."""
        out: list[FloatArray] = []
        for terms, covariance in zip(self.blocks, covariances, strict=True):
            at = 0
            for structure in terms:
                stop = at + structure.size
                out.append(structure.project(covariance[at:stop, at:stop]))
                at = stop
        return np.concatenate(out) if out else np.zeros(0)
