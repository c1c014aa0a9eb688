"""One thread of BLAS: with more, small dense oracles wait for each other most of the time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import scipy.linalg  # noqa: F401  its BLAS must be loaded to be limited
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="session", autouse=True)
def one_thread_of_blas() -> Iterator[None]:
    with threadpool_limits(1, user_api="blas"):
        yield
