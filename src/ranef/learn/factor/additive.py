"""The additive part of a model with latent terms: without them, and given their products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.engine.threads import Engine
from ranef.family import Family
from ranef.learn.gaussian import Solver, fit_gaussian
from ranef.learn.generalized import fit_generalized
from ranef.learn.held import Given
from ranef.learn.start import Start

FloatArray = npt.NDArray[np.float64]

# of the mixed model where sweeps begin, which move on from it at once: covariances within their standard errors do
START_PROBES, START_TOLERANCE = 4, 0.1
# of the one that ends them: what variational posteriors get wrong is more than the Monte-Carlo error of few probes,
# which the table of variances shows
LAST_PROBES, LAST_TOLERANCE = 8, 1e-3


def quickly_fitted(design: Design) -> Design:
    """Where sweeps and chains begin: without latent terms, and without bags, histories and walks.

    These tie levels to each other, so that their mixed model may take longer than all sweeps, which soon have their
    effects.
    """
    own = [g for g, group in enumerate(design.groups) if group.membership is None and group.walk is None]
    spec = msgspec.structs.replace(design.spec, latent=(), groups=tuple(design.spec.groups[g] for g in own))
    return replace(design, latent=(), spec=spec, groups=tuple(design.groups[g] for g in own))


@dataclass(frozen=True, eq=False)
class Additive:
    """How to fit fixed and random effects.

    Attributes
    ----------
    design : Design
        Without latent terms.
    family : Family or None
        Another one than the Gaussian.
    engine, solver, probes, seed
        As of `ranef.learn.gaussian.fit_gaussian`.
    """

    design: Design
    family: Family | None
    engine: Engine
    solver: Solver
    probes: int | None
    seed: int

    def alone(self) -> Model:
        """Without latent terms: where sweeps begin. Another family's fixed effects are at their joint mode."""
        if self.family is None:
            return fit_gaussian(
                self.design,
                "reml",
                self.engine,
                solver=self.solver,
                probes=START_PROBES if self.probes is None else self.probes,
                seed=self.seed,
                tolerance=START_TOLERANCE,
            )
        return fit_generalized(
            self.design,
            self.family,
            "joint",
            self.engine,
            solver=self.solver,
            probes=START_PROBES if self.probes is None else self.probes,
            seed=self.seed,
        )

    def given(
        self,
        offset: FloatArray,
        sigma2: float,
        begin: Sequence[FloatArray],
        before: Model,
        *,
        held: bool = False,
    ) -> Model:
        """Given the latent terms' products.

        Parameters
        ----------
        offset : float64 array, shape (rows,)
            Products and all.
        sigma2 : float
            Residual variance, which a Gaussian model is given.
        begin : sequence of float64 arrays (k, k)
            Covariances of each grouping factor: where the search begins, or what is ``held``.
        before : Model
            Where the sweeps began: its fixed effects, and the modes of the factors that it has.
        """
        groups = self.design.spec.groups
        design = replace(self.design, offset=offset)
        terms: tuple[tuple[FloatArray | None, ...], ...] = tuple((None,) * len(spec.terms) for spec in groups)
        names: tuple[str, ...] = ()
        if held:
            places = [[slice(t.start, t.start + t.size) for t in spec.terms] for spec in groups]
            terms = tuple(
                tuple(covariance[own, own] for own in of) for of, covariance in zip(places, begin, strict=True)
            )
            names = tuple(
                spec.name if t == 0 else f"{spec.name}.{t}" for spec in groups for t in range(len(spec.terms))
            )
        if self.family is None:
            return fit_gaussian(
                design,
                "reml",
                self.engine,
                solver=self.solver,
                probes=LAST_PROBES if self.probes is None else self.probes,
                seed=self.seed,
                start={spec.name: covariance / sigma2 for spec, covariance in zip(groups, begin, strict=True)},
                given=Given(terms, sigma2, (*names, "Residual")),
                tolerance=LAST_TOLERANCE,
            )
        modes = {spec.name: group.modes for spec, group in zip(before.spec.groups, before.groups, strict=True)}
        start = Start(
            covariances={spec.name: covariance for spec, covariance in zip(groups, begin, strict=True)},
            modes={
                spec.name: modes.get(spec.name, np.zeros((len(group.levels), len(spec.coefficients))))
                for spec, group in zip(groups, self.design.groups, strict=True)
            },
            beta=dict(zip(before.fixed_names, before.beta.tolist(), strict=True)),
            family=(before.info.family, before.info.link),
            phi=before.phi,
        )
        return fit_generalized(
            design,
            self.family,
            "joint" if held else "laplace",
            self.engine,
            solver=self.solver,
            probes=LAST_PROBES if self.probes is None else self.probes,
            seed=self.seed,
            start=start,
            given=Given(terms, None, names) if held else None,
        )
