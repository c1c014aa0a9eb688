"""`fit`: from a formula and data to a `Fit`. Checks options, reads, fits, warns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.design.build import build_design
from ranef.design.rows import Missing
from ranef.engine.compiling import telling_of_compilation
from ranef.engine.threads import engine
from ranef.errors import OptionError
from ranef.family import Family
from ranef.family import family as family_of
from ranef.formula import parse
from ranef.learn import gaussian, generalized
from ranef.learn.doubling import MOST_PROBES
from ranef.learn.factor import fit as factor_fit
from ranef.learn.factor.fit import fit_factors
from ranef.learn.factor.gibbs import sample_factors
from ranef.learn.factor.penalties import check_penalty
from ranef.learn.gaussian import Solver, fit_gaussian
from ranef.learn.generalized import fit_generalized
from ranef.learn.gibbs import fit_gibbs
from ranef.learn.unbounded import breaking_numbers, checked, explained
from ranef.result.covariance import check_bound, given_covariances
from ranef.result.fit import Fit
from ranef.result.habits import FIT, with_habits
from ranef.result.implicit_fit import ImplicitFit
from ranef.result.implicit_front import IMPLICIT, fit_pairs
from ranef.result.latent_options import refuse_with_latent
from ranef.result.lock import given_of_others, lock_terms, with_locked, without
from ranef.result.methods import method_of
from ranef.result.nodes import check_quadrature
from ranef.result.options import check_tolerance, check_whole, choice
from ranef.result.progress import compiling, counter, steps, sweeps
from ranef.result.ratings import limits_of, rating_values, read_clip
from ranef.result.sampling import DEFAULTS, DEFAULTS_LATENT, read_sampling
from ranef.result.validation import Callback, Validator, after_sweeps, read_callbacks, read_validation
from ranef.result.warm import earlier_of, start_of
from ranef.result.warn import warn_about_fit, warn_about_order
from ranef.storage import storage
from ranef.table import open_source

FloatArray = npt.NDArray[np.float64]

SOLVERS = ("auto", "exact", "stochastic", "bound")
MISSING = ("drop", "raise")


@with_habits(FIT)
def fit(
    formula: str,
    data: Any,
    *,
    family: str | Family | Callable[..., Family] = "gaussian",
    link: str | None = None,
    method: Literal["reml", "ml", "laplace", "joint", "gibbs", "vb", "map"] | None = None,
    weights: str | npt.ArrayLike | None = None,
    offset: str | None = None,
    tables: Mapping[str, Any] | None = None,
    covariance: Any = None,
    start: Fit | None = None,
    lock: str | Sequence[str] | None = None,
    missing: Literal["drop", "raise"] = "drop",
    solver: Literal["auto", "exact", "stochastic", "bound"] = "auto",
    probes: int | Literal["auto"] = "auto",
    seed: int = 0,
    quadrature: int = 1,
    prior: str | Mapping[str, Any] | None = None,
    draws: int | None = None,
    warmup: int | None = None,
    chains: int | None = None,
    thin: int | None = None,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    threads: int | None = None,
    memory: str | int = "auto",
    progress: bool | None = None,
    unobserved: float | None = None,
    penalty: float | Mapping[str, float] | None = None,
    exponent: float | None = None,
    validation: Any = None,
    callbacks: Callback | Sequence[Callback] | None = None,
    clip: tuple[float, float] | Literal["auto"] | None = "auto",
) -> Fit:
    """Fit a linear or generalized linear mixed-effects model.

    Parameters
    ----------
    formula : str
        lme4's language: ``"y ~ x + (1 + x | g) + (1 | a/b)"``.
    data : data frame, Arrow table or stream, dict of arrays, path, list of paths or glob
        Any data frame that narwhals knows; Parquet or CSV files.
    family : str or Family
        The distribution of the response: ``"gaussian"``, ``"bernoulli"`` (0 or 1, or a column of two levels, the first
        one the failure), ``"binomial"`` (``cbind(successes, failures) ~ ...``, or a proportion whose weights are the
        trials), ``"poisson"``, ``"negative_binomial"``, ``"gamma"``, ``"ordinal"`` (any ordered column; texts without a
        declared order are sorted, with a warning), ``"ratings"`` (evenly spaced numbers, whose mean a logistic function
        keeps between the smallest and the largest: the likelihood of as many trials as there are steps between these);
        R's names for them; or a family such as ``ranef.ordinal(link="probit", thresholds="equidistant")``.
        ``"implicit"``, of pairs that are observed or not: ``"1 ~ latent(user, item, rank=64)"``, or confidences on the
        left side; see `ranef.result.implicit_front`.
    link : str, optional
        Default: the family's first. ``"identity"`` of gaussian; ``"logit"``, ``"probit"`` and ``"cloglog"`` of
        bernoulli, binomial and ordinal; ``"logit"`` of ratings; ``"log"`` of the others.
    method : {"reml", "ml", "laplace", "joint", "gibbs", "vb", "map"}, optional
        ``"vb"``, for a model with ``latent()`` or ``fm()``: variational Bayes. Vectors and effects have normal
        posteriors that are independent between factors; sweeps over the factors raise a lower bound of the likelihood,
        `Fit.elbo`, and learn all covariances, so that there is no penalty to choose. ``tolerance`` (2e-4) is the rise
        of the bound, for each row, below which they end, ``max_iterations`` (200) the most sweeps. Where levels have
        few rows it drops components that would still predict a little. Covariances among the numbers of a vector are
        kept where those of all levels take half a gigabyte or less, else variances alone (25 million rows at rank 64
        take 3 GB so). For gaussian, bernoulli (logit: the bound of Jaakkola and Jordan, or probit), binomial (logit),
        ratings and ordinal (probit).
        ``"map"``, for any family with ``latent()`` or ``fm()``: the mode of the penalised likelihood, probabilistic
        matrix factorization. Penalties are given (``penalty``), or learned by a few variational sweeps first. The
        objective, in `Fit.history`, never rises; sweeps end when it falls by less than ``tolerance`` (1e-5) for each
        row. Vectors count as known in intervals of predictions, which are too narrow by what they are uncertain.
        Gaussian: restricted (the default) or full maximum likelihood. Other families: the Laplace approximation of the
        likelihood, maximised over all parameters (the default, lme4's ``nAGQ = 1``), or with the fixed effects at
        their joint mode with the random effects (``nAGQ = 0``: faster, fixed effects a little closer to zero).
        ``"gibbs"``: draws from the posterior of all parameters, for gaussian, bernoulli with a logit or probit link,
        binomial with a logit link and ordinal with a probit link. Its estimates are posterior means, standard errors
        posterior standard deviations, and predictions means over the draws. Rare events mix slowly with a logit link:
        R-hat and effective sample sizes in the summary say whether to take more draws. With ``latent()`` or ``fm()``
        it predicts better than ``"vb"`` where levels have few rows, and takes longer. Each number of a factor's vectors
        has a variance and a mean of its own; the mean is the vector of a new level.
    weights : str or array_like, shape (rows,), optional
        Prior weights, a column's name, or numbers. Gaussian: the variance of a row is ``sigma^2 / weight``. Binomial
        proportion: the trials. Other families: how often a row counts. Rows of weight zero are dropped and counted.
    offset : str, optional
        A column that is added to the linear predictor with coefficient one; as ``offset(column)`` in the formula.
    tables : mapping of str to table, optional
        Attributes of levels, each table with one row a level: ``{"user_id": users, "item_id": items}``. A column that
        the formula names and ``data`` lack is read from the table that has it, through its key, ``"user_id"``, which
        both have. Rows whose key is not in the table lack a value (see ``missing``). The model keeps the columns that
        it used.
    covariance : table or Fit, optional
        Covariances that are held at given values; the others are learned. A table with the columns grp, var1, var2 and
        vcov, as `Fit.varcorr` gives it (a data frame, Arrow table, dict of columns, or the path of a CSV or Parquet
        file): a row with ``var2`` is a covariance. A term is given with all its rows, or learned. The row ``Residual``
        gives the residual variance of a Gaussian model; without it sigma is learned beside the given covariances. Or
        another fit, for all its terms. What is held has no standard error (NaN) and does not count in ``Fit.df``. Where
        all are given, ``method`` is ``"joint"`` by default outside the Gaussian family: the coefficients at their joint
        mode, by Newton's method until the gradient's norm is ``tolerance`` (default 1e-6) times that without random
        effects; `Fit.history` has it for every step.
    start : Fit, optional
        Start the search from the covariances of this fit, and outside the Gaussian family from the coefficients of the
        levels that both have, and from thresholds or dispersion if it is of the same family. With ``latent()`` and
        ``fm()`` the sweeps, or chains, begin at its coefficients and vectors, whatever their rank: components that it
        does not have begin small and at random, and of more than are wanted the largest are taken.
    lock : str or sequence of str, optional
        Grouping factors whose coefficients stay as they are in ``start``: they enter as an offset, and the model keeps
        and predicts with them. Levels that ``start`` does not have stay at zero, the population's value, and are
        counted in a warning. Likelihood, standard errors and intervals are given the locked coefficients; the standard
        deviations of these are those of ``start``.
    missing : {"drop", "raise"}
        What to do with rows that lack a value in a column of the model; dropped rows are counted in ``Fit.dropped``.
    solver : {"auto", "exact", "stochastic", "bound"}
        Exact: a dense Cholesky factorisation of what is left after the largest grouping factor, and what nests with
        it, is eliminated. Stochastic: conjugate gradients, and traces from random probes; the Monte-Carlo error of
        every variance and of the log-likelihood is reported. ``"auto"`` is exact where that takes seconds: up to 2,000
        random effects besides those eliminated. ``"bound"``, for given covariances, is Diamond's: the curvature of
        every row at its bound (1/4 for a logit), prepared once, and steps of the length that Newton's method has
        along them.
    probes : int or "auto"
        Probes of the stochastic solver, 2 to 64. ``"auto"`` begins with 8 and doubles them until the Monte-Carlo error
        of every covariance parameter (and outside the Gaussian family of every other parameter too) is at most a
        twentieth of its standard error. With ``method="vb"`` or ``"map"`` it is 8: their approximation errs by more.
    seed : int
        Of the probes or draws: the same seed gives the same fit to the last bit.
    quadrature : int
        Nodes of adaptive Gauss-Hermite quadrature, up to 100 (lme4's ``nAGQ``), for ``method="laplace"`` and a model
        with one random term of one coefficient a level, ``(1 | g)`` or ``(0 + x | g)``. 1 is the Laplace
        approximation, whose variances are too small where levels have few rows of little information, such as
        zeros and ones; 15 to 25 are as good as exact. The log-likelihood keeps its constants, some of which lme4
        leaves out for more than one node: compare estimates with lme4's, and likelihoods with those of Laplace fits.
    prior : str or mapping, optional
        Of ``"gibbs"``: ``"half-t"`` (the default), ``"inverse-wishart"``, or a mapping with some of the keys
        ``covariance`` (one of these words), ``df``, ``scale``, ``sd``, ``residual``, ``fixed``. Half-t gives every
        standard deviation a half-t distribution with ``df`` (2) degrees of freedom and every correlation a uniform one;
        it keeps no variance away from zero. The scale of a standard deviation is ``scale`` (2.5) times the spread of
        the response (of the least-squares residuals; 1 with a link) over that of the covariate; or ``sd`` for every
        random effect and ``residual`` for the residual. Inverse Wishart has ``df`` (one more than coefficients) degrees
        of freedom around such a scale (1). Fixed effects and thresholds have flat priors, or normal ones around zero
        with the standard deviation ``fixed``: a number, or a mapping of some of their names to numbers. The numbers of
        vectors have such a prior too, in which the products of a latent term have the standard deviation ``scale``
        times the spread of the response; beside them fixed effects have flat priors.
    draws, warmup, chains, thin : int, optional
        Of ``"gibbs"``: draws of each chain (1,000; with latent terms 50), sweeps thrown away before (500; 25), chains
        (4), sweeps for each draw (1). Of many coefficients not all draws are kept to predict with. With latent terms,
        many short chains, ``chains=12, warmup=5, draws=15``, often predict better than as many sweeps of few long ones;
        parameters and intervals need long ones.
    tolerance : float, optional
        The search ends when a step is predicted to lower the deviance by less than this; default 1e-9, an error of
        about 3e-5 standard errors in the covariance parameters. Default of families other than the Gaussian with 500
        and more random effects besides the largest factor's: 1e-7; of the stochastic solver: 1e-5.
    max_iterations : int, optional
        Evaluations of the criterion; default 200.
    threads : int, optional
        Default: all cores. The result is the same to the last bit for any number.
    memory : {"auto", "memory", "disk"}, str or int
        Where the rows and their cross products live; the result is the same to the last bit. ``"disk"`` keeps them in
        temporary files, in the folder that the environment variable ``TMPDIR`` names, and as little as possible in
        memory; a size such as ``"2GB"`` does so too and uses up to this much memory for the whole process; ``"auto"``
        keeps in files what would take more than half of the memory that the machine or the container has to spare.
        Vectors over the levels stay in memory.
    progress : bool, optional
        Report each step on stderr, and about how long the search will take. Default: on a terminal, when the fit takes
        more than a second.
    validation : float or table, optional
        Of ``"vb"`` and ``"map"``: rows that the sweeps are scored on, by the root mean square error of their
        predictions (log loss of outcomes and categories, the mean deviance of counts and of gamma). The sweeps end when
        five in a row had no better score, or when little is gained, and the best one is kept. A share of the rows, such
        as 0.1, is drawn by ``seed`` and left out of the fit; or a table that has the response. Best where levels have
        few rows, where the sweeps would go on to drop components that predict.
    callbacks : callable or list of callable, optional
        Of ``"vb"`` and ``"map"``: called after every sweep with an object that has its ``number``, ``seconds``,
        ``bound``, ``gain`` (rise of the bound, for each row) and ``score``. One that returns True ends the sweeps.
        Ctrl-C ends them too, after the one that is running, with a `ConvergenceWarning`; pressed again, it interrupts
        the fit.
    clip : (low, high), "auto" or None
        Of a Gaussian response: where `Fit.predict` clips the predictions of ratings, and their intervals. ``"auto"``:
        beside ``latent()`` and ``fm()`` at the smallest and the largest rating, if the response is at most 50 evenly
        spaced numbers; no other prediction is clipped. None: nowhere. Estimates and residuals do not depend on it.
    penalty : float or mapping of str to float, optional
        Of ``method="map"``: the penalty of the squares of vectors and random effects, the residual variance (1 outside
        the Gaussian family) over their prior variance, for all factors or by name, ``{"user_id": 5, "item_id": 8}``.
        Those that are not given are learned. Where all are given, sigma is the root mean square of the residuals.
    unobserved, penalty, exponent : float, optional
        Of ``family="implicit"``: the weight of a pair that is not observed (an observed one has as much more as its
        confidence), the penalty of the vectors, and the power of a level's total weight that it goes with (default 1;
        0 for the same penalty everywhere). Weight and penalty, and a rank that is ``"auto"``, are chosen if not given,
        by NDCG@100 on a fifth of the users (at most 1,000), who are left out, folded in from four fifths of their items
        and asked for the rest; `Fit.trials` has what was tried.

    Returns
    -------
    Fit

    Raises
    ------
    FormulaError
        The formula is wrong, with the place.
    DataError
        The data cannot be used, with column, row and count.
    OptionError
        An option has a value that is not accepted.
    FitError
        The model cannot be fitted to these data.

    Warns
    -----
    DroppedRowsWarning, DroppedColumnsWarning, SingularFitWarning, ConvergenceWarning, CategoryOrderWarning

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.fit("Reaction ~ Days + (Days | Subject)", ranef.data.sleepstudy())
    >>> round(fit.sigma, 2)
    25.59
    """
    begun = time.perf_counter()
    if isinstance(family, str) and family.strip().lower() == IMPLICIT:
        return fit_pairs(
            formula,
            data,
            {
                "link": link,
                "weights": weights,
                "offset": offset,
                "tables": tables,
                "covariance": covariance,
                "start": start,
                "lock": lock,
                "solver": None if solver == "auto" else solver,
                "probes": None if probes == "auto" else probes,
                "quadrature": None if quadrature == 1 else quadrature,
                "prior": prior,
                "draws": draws,
                "warmup": warmup,
                "chains": chains,
                "thin": thin,
                "memory": None if memory == "auto" else memory,
                "validation": validation,
                "callbacks": callbacks,
                "clip": None if clip == "auto" else clip,
            },
            method=method,
            missing=missing,
            seed=seed,
            tolerance=tolerance,
            max_iterations=max_iterations,
            threads=threads,
            progress=progress,
            unobserved=unobserved,
            penalty=cast(float | None, penalty),
            exponent=exponent,
        )
    for name, value in (("unobserved", unobserved), ("exponent", exponent)):
        if value is not None:
            raise OptionError(f"{name}= belongs to family='implicit'; leave it out")
    distribution = family_of(family, link)
    parsed = parse(formula)
    factors = bool(parsed.latent)
    method_ = method_of(distribution, method, factors)
    clip = read_clip(clip, distribution.name)
    if penalty is not None and method_ != "map":
        raise OptionError("penalty= belongs to family='implicit' and to method='map' of latent terms; leave it out")
    solver = cast(Solver, choice("solver", solver, SOLVERS))
    missing = cast(Missing, choice("missing", missing, MISSING))
    if probes != "auto" and not (isinstance(probes, int) and 2 <= probes <= MOST_PROBES):
        raise OptionError(f"probes={probes!r}: give a whole number from 2 to {MOST_PROBES}, or 'auto'")
    check_whole("seed", seed, 0)
    check_quadrature(quadrature, distribution, method_)
    bayesian = read_sampling(
        method_ == "gibbs",
        {"draws": draws, "warmup": warmup, "chains": chains, "thin": thin, "prior": prior},
        {
            "probes=": probes == "auto",
            "tolerance=": tolerance is None,
            "max_iterations=": max_iterations is None,
            "covariance=": covariance is None,
            "lock=": lock is None,
            "solver='bound'": solver != "bound",
            "validation=": validation is None,
            "callbacks=": callbacks is None,
        },
        DEFAULTS_LATENT if parsed.latent else DEFAULTS,
    )
    check_tolerance(tolerance)
    if max_iterations is not None:
        check_whole("max_iterations", max_iterations, 1)
    if start is not None and not isinstance(start, Fit):
        raise OptionError(f"start={type(start).__name__}: give an earlier Fit")
    for name, earlier in (("start", start), ("covariance", covariance)):
        if isinstance(earlier, ImplicitFit):
            raise OptionError(f"{name}= was given a fit of implicit feedback; give one of a mixed model")
    if isinstance(covariance, str) and covariance == "keep":
        raise OptionError("covariance='keep' is for refit(), which has a fit to keep; give a table or a Fit")
    if factors:
        refuse_with_latent(
            {
                "covariance=": covariance is not None,
                "lock=": lock is not None,
                "solver='bound'": solver == "bound",
            },
        )
    else:
        for name, is_given in (("validation", validation is not None), ("callbacks", callbacks is not None)):
            if is_given:
                raise OptionError(f"{name}= goes with latent() or fm(), whose sweeps it follows; leave it out")
    held = None if validation is None else read_validation(validation, seed)
    called = read_callbacks(callbacks)
    source = open_source(data)
    place = storage(memory)
    with engine(threads, place) as pool, telling_of_compilation(compiling(progress)):
        design = build_design(
            parsed,
            source,
            weights=weights,
            offset=offset,
            missing=missing,
            kind=distribution.kind,
            storage=place,
            tables=tables,
            hold_out=None if held is None else held.hold_out,
        )
        warn_about_order(design)
        whole = design
        ratings = rating_values(design) if distribution.kind == "number" else ()
        limits = limits_of(clip, ratings, factors)
        locked = None if lock is None else lock_terms(design, None if start is None else start.model, lock)
        design = design if locked is None else without(locked)
        begin = None if start is None or factors else start_of(start.model, design)
        earlier = earlier_of(start.model, design) if factors and start is not None else None
        given = None
        if covariance is not None:
            table = covariance.model if isinstance(covariance, Fit) else covariance
            given = given_covariances(table, whole.spec, distribution.name)
            if locked is not None:
                given = given_of_others(locked, given, named=not isinstance(covariance, Fit))
            if method is None and quadrature == 1 and given.complete and distribution.kind != "number":
                # the coefficients are what is wanted
                method_ = "joint"
        if solver == "bound":
            check_bound(given, method_, distribution)
        if factors and bayesian is not None:
            model = sample_factors(
                design,
                distribution,
                pool,
                bayesian.prior,
                bayesian.lengths,
                solver=solver,
                seed=seed,
                start=earlier,
                report=counter("sweeps", progress),
            )
        elif factors:
            validator = None
            if held is not None:
                validator = Validator(held.source or source, design.held_out, tables, limits)
            fields = [field.name for term in design.spec.latent for side in term.sides for field in side]
            check_penalty(penalty, list(dict.fromkeys([*fields, *(group.name for group in design.spec.groups)])))
            model = fit_factors(
                design,
                pool,
                family=None if distribution.kind == "number" else distribution,
                method=cast(factor_fit.Method, method_),
                penalty=penalty,
                solver=solver,
                probes=None if probes == "auto" else probes,
                seed=seed,
                start=earlier,
                tolerance=tolerance,
                max_sweeps=max_iterations,
                validate=validator,
                after=after_sweeps(sweeps(progress), called),
            )
            if validator is not None:
                counts = msgspec.structs.replace(model.info, validation_rows=validator.count)
                model = replace(model, info=counts)
        elif bayesian is not None:
            model = fit_gibbs(
                design,
                distribution,
                pool,
                bayesian.prior,
                bayesian.lengths,
                solver=solver,
                seed=seed,
                start=None if start is None or begin is None else _raw(begin.covariances, start.model.info.sigma),
                report=counter("sweeps", progress),
            )
        elif distribution.kind == "number":
            model = fit_gaussian(
                design,
                cast(gaussian.Method, method_),
                pool,
                solver=solver,
                probes=None if probes == "auto" else probes,
                seed=seed,
                start=None if begin is None else begin.covariances,
                given=given,
                tolerance=tolerance,
                max_iterations=max_iterations,
                report=steps(progress, tolerance),
            )
        else:
            with explained(design, distribution):
                model = fit_generalized(
                    design,
                    distribution,
                    cast(generalized.Method, method_),
                    pool,
                    quadrature=quadrature,
                    solver=solver,
                    probes=None if probes == "auto" else probes,
                    seed=seed,
                    start=begin,
                    given=given,
                    tolerance=tolerance,
                    max_iterations=max_iterations,
                    report=steps(progress, tolerance, residual=False),
                )
            model = checked(design, distribution, model)
    if locked is not None:
        model = with_locked(model, locked)
    options: dict[str, Any] = {"prior": prior, "tables": tables}
    options |= {"family": family, "link": link, "method": method, "weights": weights, "offset": offset}
    options |= {"covariance": covariance, "probes": probes, "seed": seed, "quadrature": quadrature}
    options |= {"draws": draws, "warmup": warmup, "chains": chains, "thin": thin}
    options |= {"missing": missing, "solver": solver, "tolerance": tolerance, "max_iterations": max_iterations}
    options |= {"threads": threads, "memory": memory, "progress": progress}
    options |= {"validation": validation, "callbacks": callbacks, "clip": clip}
    if penalty is not None:
        options |= {"penalty": penalty}
    if lock is not None:
        options |= {"lock": lock, "start": start}
    # reading included
    seconds = time.perf_counter() - begun
    info = msgspec.structs.replace(model.info, seconds=seconds, ratings=ratings, clip=limits)
    if solver == "bound":
        info = msgspec.structs.replace(info, solver="bound")
    warn_about_fit(model, None if info.converged else breaking_numbers(design, distribution))
    model = replace(model, info=info, attributes=whole.attributes)
    return Fit(model, formula, source.library, whole, data, options)


def _raw(relative: Mapping[str, FloatArray], sigma: float) -> dict[str, FloatArray]:
    return {name: sigma**2 * covariance for name, covariance in relative.items()}
