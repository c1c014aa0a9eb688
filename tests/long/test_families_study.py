"""A short version of the study of families beside lme4 and clmm: `benchmarks.studies.families`."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from benchmarks.studies.families import PEERS, covered, errors, peers, trials, truth

pytestmark = pytest.mark.long

SETS = 12


@pytest.fixture(scope="module", params=list(PEERS))
def done(request: pytest.FixtureRequest):
    return request.param, trials(request.param, SETS)


def test_the_truth_is_within_its_errors(done):
    family, fits = done
    assert not any(one.failed for one in fits)
    for name in truth(family):
        off = errors(fits, family, name)
        assert abs(off.mean()) < 4 * off.std(ddof=1) / np.sqrt(SETS)
        # of twelve intervals at 95 % nine and more hold the truth, but for one study in 400
        assert np.nanmean(covered(fits, family, name)) >= 0.75


def test_fits_are_the_peers(done):
    if (
        shutil.which("Rscript") is None
        or subprocess.run(
            ["Rscript", "-e", "library(lme4); library(ordinal)"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("needs R with lme4 and ordinal")
    family, fits = done
    theirs = peers(family, SETS, next(iter(PEERS[family].values())))
    for one, two in zip(fits, theirs, strict=True):
        assert one.deviance < two.deviance + 1e-4
        for name in truth(family):
            assert one.estimate[name] == pytest.approx(two.estimate[name], abs=1e-3)
