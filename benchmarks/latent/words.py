"""Vectors of words from the Brown corpus: how like people's judgements, and whether analogies are found."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from scipy import sparse, stats
from scipy.sparse.linalg import svds

import ranef
from benchmarks.clicks.real import Unavailable, real
from benchmarks.latent.peers import measured
from benchmarks.studies.page import Bar, Section, table

FloatArray = npt.NDArray[np.float64]

WINDOW, MIN_COUNT, RANK, EPOCHS = 5, 5, 100, 15
REPLICATES, TOLERANCE = 1000, 1e-3
FORMULA = f"pmi ~ 1 + (1 | token) + (1 | context) + latent(token, context, rank={RANK})"
FORMULA_IMPLICIT = f"pmi ~ latent(token, context, rank={RANK})"
IMPLICIT, GAUSSIAN = "ranef, implicit", "ranef, vb"
SVD, PEER = "truncated SVD of positive pmi", f"gensim word2vec, skip-gram, {EPOCHS} epochs"
LEVEL = 0.001  # of the tests against chance
ALIKE = 7.0  # of 10, in the judgement of people


@dataclass(frozen=True, eq=False)
class Vectors:
    """Unit vectors of words; ``place`` is each word's row."""

    place: Mapping[str, int]
    rows: FloatArray

    @classmethod
    def of(cls, words: Sequence[str], rows: npt.ArrayLike) -> Vectors:
        values = np.asarray(rows, dtype=np.float64)
        values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
        return cls({word: place for place, word in enumerate(words)}, values)


@dataclass(frozen=True)
class Score:
    """How good vectors are.

    Attributes
    ----------
    pairs : int
        Of wordsim353, both words known.
    correlation : float
        Spearman's, of cosines with judgements.
    neighbour, neighbour_p : float
        Mean share of all words that are nearer to a word than the one people think like it; the p-value of a sign test
        against one half.
    questions : int
        Analogies of which all words are known.
    found : float
        Share of them whose answer is the nearest word.
    found_p : float
        Of a binomial test against a word at random.
    """

    pairs: int
    correlation: float
    neighbour: float
    neighbour_p: float
    questions: int
    found: float
    found_p: float


def run() -> Section:
    """Fit, factorize and train on the same sentences."""
    sentences = _sentences()
    begun = time.perf_counter()
    pairs = ranef.data.cooccurrence(sentences, WINDOW, min_count=MIN_COUNT)
    counting = time.perf_counter() - begun
    words = list(pairs["token"].cat.categories)
    vectors, seconds = {}, {}
    for name, made in {IMPLICIT: _confidences, GAUSSIAN: _gaussian}.items():
        begun = time.perf_counter()
        embedding = made(pairs).embedding("token")
        seconds[name] = time.perf_counter() - begun
        vectors[name] = Vectors.of(list(embedding["level"]), embedding[embedding.columns[1:]].to_numpy())
    vectors[SVD] = Vectors.of(words, _svd(pairs, len(words)))
    try:
        vectors[PEER], seconds[PEER] = _word2vec(sentences)
    except Unavailable as reason:
        print(f"gensim skipped: {reason}")
    scores = {name: score(one) for name, one in vectors.items()}
    bars = []
    for name in (IMPLICIT, GAUSSIAN):
        bars.append(Bar(f"p of neighbours against chance, {name}", scores[name].neighbour_p, -float("inf"), LEVEL, 5))
        bars.append(Bar(f"p of analogies against chance, {name}", scores[name].found_p, -float("inf"), LEVEL, 5))
    if PEER in scores:
        gap = _difference(vectors[IMPLICIT], vectors[PEER])
        bars.append(Bar("correlation less word2vec's, in paired standard errors", gap, -2.0, float("inf"), 1))
    ours = scores[IMPLICIT]
    lines = [
        [
            name,
            f"{seconds[name]:.0f}" if name in seconds else "",
            f"{one.correlation:.3f}",
            f"{one.neighbour:.3f} ({one.neighbour_p:.1e})",
            f"{one.found:.4f} ({one.found_p:.1e})",
        ]
        for name, one in scores.items()
    ]
    body = [
        f"{len(sentences):,} sentences in lower case, {len(words):,} words that occur {MIN_COUNT} times; window",
        f"{WINDOW}, {len(pairs):,} pairs, counted in {counting:.1f} s. {IMPLICIT}: `{FORMULA_IMPLICIT}`,",
        "`family='implicit'`, positive pmi as confidences of the pairs that occur; weight and penalty are chosen by",
        f"ranef itself on tokens that are held out. {GAUSSIAN}: `{FORMULA}`, of the pairs that occur alone.",
        f"Of wordsim353 {ours.pairs} pairs have both words; correlation is Spearman's between cosines and judgements.",
        f"Neighbours: of pairs that people judge {ALIKE:g} of 10 and more alike, the mean share of all words that are",
        f"nearer; one half by chance, sign test. Analogies: of {ours.questions:,} questions with all words known",
        "the share whose answer is the word nearest to b - a + c; one word in all by chance, binomial test.",
        "",
        *table(["", "seconds", "correlation", "neighbours (p)", "analogies (p)"], lines),
        "",
        "The formula of pmi sees the pairs that occur and not those that do not, whose pmi is minus infinity: it tells",
        "how often words meet that do meet, and words that never meet may have any product. Negative samples tell",
        "word2vec of these, and the weight of unobserved pairs `family='implicit'`.",
    ]
    return Section("seed 0", bars, body)


def _confidences(pairs: Any) -> Any:
    return ranef.fit(FORMULA_IMPLICIT, pairs[pairs["pmi"] > 0], family="implicit")


def _gaussian(pairs: Any) -> Any:
    return ranef.fit(FORMULA, pairs, tolerance=TOLERANCE)


def _difference(one: Vectors, other: Vectors) -> float:
    """Of the two correlations with people's judgements, over its standard error: a bootstrap of the pairs of words."""
    known = [both for both in _judged(one) if both[0] in other.place and both[1] in other.place]
    people = np.array([value for _, _, value in known])
    cosines = [
        np.array([vectors.rows[vectors.place[a]] @ vectors.rows[vectors.place[b]] for a, b, _ in known])
        for vectors in (one, other)
    ]
    rng, gaps = np.random.default_rng(0), []
    for _ in range(REPLICATES):
        rows = rng.integers(len(people), size=len(people))
        one_, other_ = (stats.spearmanr(values[rows], people[rows]).statistic for values in cosines)
        gaps.append(one_ - other_)
    whole = [stats.spearmanr(values, people).statistic for values in cosines]
    return float((whole[0] - whole[1]) / np.std(gaps))


def _judged(vectors: Vectors) -> list[tuple[str, str, float]]:
    """Pairs of wordsim353 of which both words are known, and how alike people think them."""
    lines = [line.split("\t") for line in real("words/wordsim353.tsv").read_text(encoding="utf-8").splitlines()]
    known = [(a.lower(), b.lower(), float(value)) for a, b, value in (one for one in lines if _is_pair(one))]
    return [one for one in known if one[0] in vectors.place and one[1] in vectors.place]


def _is_pair(line: Sequence[str]) -> bool:
    return len(line) == 3 and not line[0].startswith("#")


def score(vectors: Vectors) -> Score:
    """Judge vectors of words."""
    known = [(vectors.place[a], vectors.place[b], value) for a, b, value in _judged(vectors)]
    one, other, people = (np.array(column) for column in zip(*known, strict=True))
    cosines = np.einsum("ij,ij->i", vectors.rows[one], vectors.rows[other])
    alike = people >= ALIKE
    nearer = np.mean(vectors.rows[one[alike]] @ vectors.rows.T > cosines[alike, None], axis=1)
    below = stats.binomtest(int(np.sum(nearer < 0.5)), len(nearer), alternative="greater")
    right, questions = _analogies(vectors)
    found = stats.binomtest(right, questions, 1.0 / len(vectors.rows), alternative="greater")
    return Score(
        len(known),
        float(stats.spearmanr(cosines, people).statistic),
        float(nearer.mean()),
        float(below.pvalue),
        questions,
        right / questions,
        float(found.pvalue),
    )


def _analogies(vectors: Vectors) -> tuple[int, int]:
    """Right answers, and questions whose words are all known."""
    asked = pq.read_table(real("words/questions_words.parquet"))
    rows = [[one.lower() for one in line] for line in zip(*(asked[name].to_pylist() for name in "abcd"), strict=True)]
    places = np.array([[vectors.place[one] for one in row] for row in rows if all(one in vectors.place for one in row)])
    right = 0
    for some in np.array_split(places, max(1, len(places) // 500)):
        a, b, c, d = some.T
        near = (vectors.rows[b] - vectors.rows[a] + vectors.rows[c]) @ vectors.rows.T
        for given in (a, b, c):
            near[np.arange(len(some)), given] = -np.inf
        right += int(np.sum(near.argmax(axis=1) == d))
    return right, len(places)


def _sentences() -> list[list[str]]:
    texts = pq.read_table(real("words/brown_sentences.parquet"))["sentence"].to_pylist()
    return [[one for one in text.lower().split() if any(letter.isalpha() for letter in one)] for text in texts]


def _svd(pairs: object, words: int) -> FloatArray:
    """Left singular vectors times the roots of the singular values."""
    token, context = (np.asarray(pairs[name].cat.codes) for name in ("token", "context"))  # type: ignore[index]
    positive = np.maximum(np.asarray(pairs["pmi"]), 0.0)  # type: ignore[index]
    left, values, _ = svds(sparse.csr_array((positive, (token, context)), shape=(words, words)), k=RANK, random_state=0)
    return np.asarray(left * np.sqrt(values))


def _word2vec(sentences: Sequence[Sequence[str]]) -> tuple[Vectors, float]:
    def prepare(folder: Path) -> None:
        (folder / "corpus.txt").write_text("\n".join(map(" ".join, sentences)), encoding="utf-8")

    with measured("word2vec", prepare, RANK, WINDOW, EPOCHS, key="brown") as folder:
        said = json.loads((folder / "said.json").read_text(encoding="utf-8"))
        words = (folder / "words.txt").read_text(encoding="utf-8").split("\n")
        return Vectors.of(words, np.load(folder / "vectors.npy")), float(said["seconds"])
