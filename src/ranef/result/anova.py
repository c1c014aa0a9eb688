"""`anova`: likelihood-ratio tests between fits, or tests of one fit's fixed terms."""

from __future__ import annotations

from typing import Any

from ranef.errors import OptionError
from ranef.result.compare import anova_table
from ranef.result.fit import Fit, same_response
from ranef.result.implicit_fit import ImplicitFit
from ranef.result.text import family_text
from ranef.table import to_library


def anova(*fits: Fit) -> Any:
    """Compare nested fits by the likelihood-ratio test, or test the terms of one.

    Parameters
    ----------
    *fits : Fit
        Fits of the same response on the same rows. Maximum likelihood, or REML with the same fixed part.

    Returns
    -------
    table
        In the library of the first fit's data. Several fits, ordered by their parameters: model (the formula; with its
        family, if these differ), npar, AIC, BIC, logLik, deviance, chisq, df, p; with a stochastic fit among them also
        chisq_mcse, the Monte-Carlo standard error of chisq: where it exceeds 0.5 no verdict is given, and p is missing.
        One fit: a row for each fixed term with its F test (Satterthwaite), or Wald's chi-squared test for families
        other than the Gaussian.

    Raises
    ------
    OptionError
        If the fits cannot be compared: other rows or another response, family or link; REML with different fixed parts
        or beside ML; different approximations of the likelihood (Laplace beside joint modes, or other numbers of
        quadrature nodes).

    Warns
    -----
    ConvergenceWarning
        A larger model has a smaller likelihood, or a Monte-Carlo error leaves no verdict.

    Notes
    -----
    Stochastic fits with the same ``seed`` use the same random probes for what they have in common, and the error of
    chisq is that of the difference probe by probe: far below the errors of the two log-likelihoods, mostly.

    Examples
    --------
    >>> import ranef
    >>> data = ranef.data.sleepstudy()
    >>> one = ranef.fit("Reaction ~ Days + (1 | Subject)", data, method="ml")
    >>> two = ranef.fit("Reaction ~ Days + (Days | Subject)", data, method="ml")
    >>> float(ranef.anova(one, two)["chisq"][1].as_py().__round__(2))
    42.14
    """
    if not fits:
        raise OptionError("anova() needs at least one fit")
    for fit in fits:
        if not isinstance(fit, Fit):
            raise OptionError(f"anova() takes fits, not {type(fit).__name__}")
        if isinstance(fit, ImplicitFit):
            raise OptionError(
                "a fit of implicit feedback has no likelihood: ranef.evaluate.evaluate_ranking() compares"
            )
    names = [fit.formula for fit in fits]
    families = [family_text(fit.model.info) for fit in fits]
    if len(set(families)) > 1:
        names = [f"{name} [{family}]" for name, family in zip(names, families, strict=True)]
    table = anova_table([fit.model for fit in fits], names)
    for other in fits[1:]:
        if not same_response(fits[0], other):
            raise OptionError(
                f"the responses of {fits[0].formula} and {other.formula} have different values: these are fits of "
                "different data, which cannot be compared"
            )
    return to_library(table, fits[0].library)
