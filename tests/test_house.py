"""House rules that no linter knows. CONTRIBUTING.md says why."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "ranef").rglob("*.py"))
WRITTEN = sorted(
    path
    for folder in ("src", "tests", "docs", "benchmarks")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".md", ".R", ".toml"}
)

FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ROOMS = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
# what a caller meets is one tree, RanefError; these would be outside it
FOREIGN_ERRORS = {
    "ArithmeticError",
    "AssertionError",
    "Exception",
    "IndexError",
    "NotImplementedError",
    "RuntimeError",
    "ValueError",
}
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:wor" + r"k|ho" + r"me|ro" + r"ot|User" + r"s)/")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def places(path: Path, found: list[ast.AST]) -> list[str]:
    return [f"{name(path)}:{getattr(node, 'lineno', 1)}" for node in found]


def called(node: ast.AST) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_source_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    assert text.count("\n") < 500, "a file that holds two ideas becomes a folder"
    assert not text.strip() or ast.get_docstring(tree), "say in a line what the file is for"
    assert not places(path, [n for n in nodes if isinstance(n, ast.Assert)]), "raise an error of ranef.errors"
    assert not places(path, [n for n in nodes if called(n) in FORBIDDEN_CALLS]), "nothing is evaluated as Python"
    raised = [n for n in nodes if isinstance(n, ast.Raise) and n.exc is not None and called(n.exc) in FOREIGN_ERRORS]
    assert not places(path, list(raised)), "raise an error of ranef.errors"
    imported = {alias.name.split(".")[0] for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    imported |= {(n.module or "").split(".")[0] for n in nodes if isinstance(n, ast.ImportFrom)}
    assert not imported & FORBIDDEN_ROOMS, "a model file must not be able to run code"
    if "kernel" in path.relative_to(ROOT / "src" / "ranef").parts:
        allowed = {"__future__", "collections", "contextlib", "llvmlite", "math", "numba", "numpy", "ranef", "typing"}
        # it tells LLVM the addresses of SciPy's routines
        allowed |= {"ctypes", "scipy", "types"} if path.name == "blas.py" else set()
        assert imported <= allowed


@pytest.mark.parametrize("path", WRITTEN, ids=name)
def test_nothing_unfinished_and_no_path_of_one_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not UNFINISHED.findall(text)
    assert not MACHINE_PATH.findall(text)


def test_what_serves_a_model_loads_no_compiler() -> None:
    asked = "import sys, ranef, ranef.artifact, ranef.data, ranef.design, ranef.score, ranef.table; "
    said = subprocess.run(
        [sys.executable, "-c", asked + "print('numba' in sys.modules)"], capture_output=True, text=True
    )
    assert said.stdout.strip() == "False", said.stderr


def test_changelog_has_a_place_for_the_next_entry() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_modules_of_tests_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, "pytest cannot collect two modules of one name"
