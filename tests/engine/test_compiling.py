"""What is told of compilation: once, and only where the compiler has run."""

import numba

from ranef.engine.compiling import telling_of_compilation


def test_it_is_told_once_and_not_of_what_is_compiled_already():
    told = []
    twice = numba.njit(lambda x: 2 * x)
    with telling_of_compilation(lambda: told.append("compiling")):
        assert twice(1) == 2
        assert twice(1.5) == 3
    assert told == ["compiling"]
    with telling_of_compilation(lambda: told.append("again")):
        assert twice(2) == 4
    assert told == ["compiling"]
    numba.njit(lambda x: x)(1)
    assert told == ["compiling"]


def test_silence():
    with telling_of_compilation(None):
        assert numba.njit(lambda x: x)(3) == 3
