"""How commands end: exit codes, errors as lines, interrupts, closed pipes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pyarrow.parquet as pq
import pytest

from ranef.cli import main
from ranef.cli.words import in_flags, quoted
from ranef.data import sleepstudy

FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder: ``sleep.parquet``, ``flat.csv`` (a constant response), ``broken.parquet``, ``other/``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANEF_DEBUG", raising=False)
    pq.write_table(sleepstudy(), "sleep.parquet")
    Path("flat.csv").write_text("y,g\n1,a\n1,a\n1,b\n1,b\n")
    Path("latin.csv").write_bytes("y,g\n1,a\n2,ü\n".encode("latin-1"))
    Path("semicolons.csv").write_text("y;g\n1;a\n2;b\n")
    Path("broken.parquet").write_text("not Parquet")
    Path("other").mkdir()
    Path("other/notes.txt").write_text("mine")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fit", "y ~ 1 + (1 | g)", "flat.csv"], 1, "no variation"),
        (["fit", FORMULA, "broken.parquet"], 1, "cannot be read as Parquet"),
        (["fit", "Reaction ~ Days + (1 | Days:Subject)", "sleep.parquet"], 1, "cannot be told from the residual"),
        (["fit", "Reaction ~ Days + (Days | Subject", "sleep.parquet"], 2, "^"),
        (["fit", "Reaction ~ Dayz + (1 | Subject)", "sleep.parquet"], 2, "Did you mean `Days`?"),
        (["fit", FORMULA, "nowhere.parquet"], 2, "no such file"),
        (["fit", FORMULA, "sleep.txt"], 2, "no such file"),
        (["fit", FORMULA, "sleep.parquet", "--method", "laplace"], 2, "'reml', 'ml' or 'gibbs'"),
        (["fit", FORMULA, "sleep.parquet", "--missing", "keep"], 2, "'drop' or 'raise'"),
        (["fit", FORMULA, "sleep.parquet", "--weights", "w"], 2, "no such column"),
        (["fit", FORMULA, "sleep.parquet", "--tolerance", "small"], 2, "--tolerance"),
        (["fit", FORMULA, "sleep.parquet", "--tolerance", "5"], 2, "--tolerance 5.0: give a number"),
        (["fit", FORMULA, "sleep.parquet", "--max-iterations", "0"], 2, "--max-iterations 0: give"),
        (["fit", FORMULA, "sleep.parquet", "--threads", "0"], 2, "Invalid value for '--threads'"),
        (["fit", FORMULA, "sleep.parquet", "--solver", "fast"], 2, "--solver 'fast' is not known: use 'auto'"),
        (["fit", FORMULA, "sleep.parquet", "--probes", "1"], 2, "--probes 1: give a whole number from 2 to 64"),
        (["fit", FORMULA, "sleep.parquet", "--probes", "few"], 2, "--probes 'few': give a whole number from 2 to 64"),
        (["fit", FORMULA, "sleep.parquet", "--seed", "-1"], 2, "--seed"),
        (["fit", FORMULA, "-"], 2, "standard input ('-') cannot be read"),
        (["fit", FORMULA, "."], 2, "files of several formats, such as"),
        (
            ["fit", "y ~ 1 + (1 | g)", "latin.csv"],
            1,
            "latin.csv is not UTF-8 (the first bad place is byte 0xfc in line 3)",
        ),
        (["fit", "y ~ 1 + (1 | g)", "semicolons.csv"], 1, "separated by semicolons"),
        (["fit", FORMULA, "sleep.parquet", "--nonsense"], 2, "--nonsense"),
        (["fit", FORMULA, "sleep.parquet", "--start", "nomodel"], 2, "nomodel"),
        (["fit", FORMULA, "sleep.parquet", "--out", "other"], 2, "something else than a ranef model"),
        (["fit", FORMULA, "sleep.parquet", "--out", "flat.csv"], 2, "is a file"),
        (["fit", FORMULA], 2, "DATA"),
        (["fit", "sleep.parquet", FORMULA], 2, f'the formula comes first: ranef fit "{FORMULA}" sleep.parquet'),
        (["fit", "Reaction", "sleep.parquet"], 2, "in quotes"),
        (["fti"], 2, "fit"),
        (["show", "nomodel"], 2, "nomodel"),
        (["show", "other"], 2, "other"),
        (["predict", "nomodel", "sleep.parquet"], 2, "nomodel"),
        (["predict", "nomodel", "sleep.parquet", "--out", "p.xlsx"], 2, ".parquet or .csv"),
        (["predict", "nomodel", "sleep.parquet", "--out", "nowhere/p.csv"], 2, "no folder nowhere"),
        (["simulate", "--out", "s.csv"], 2, "--out s.csv: the extension must be .parquet"),
        (["simulate", "--out", "nowhere/s.parquet"], 2, "--out nowhere/s.parquet: there is no folder nowhere"),
        (["simulate", "--out", "s.parquet", "--group", "user"], 2, "--group takes NAME=VALUE"),
        (["demo", "--data", "sleep.parquet"], 2, "--formula go together"),
        (["demo", "--data", "sleep.parquet", "--formula", "Reaction ~ Days"], 2, "random effects"),
        (["demo", "--data", "sleep.parquet", "--formula", "Reaction ~ Dayz + (1 | Subject)"], 2, "Did you mean"),
        (["demo", "--dir", "other"], 2, "something else than a ranef model"),
    ],
)
def test_exit_code_and_message(
    arguments: list[str], code: int, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert "unexpected" not in err


def test_wrong_words_of_predict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", FORMULA, "sleep.parquet", "--out", "m", "-q"]) == 0
    Path("less.csv").write_text("Days\n1\n")
    Path("clash.csv").write_text("Days,Subject,fit\n1,308,2\n")
    for words, message in (
        (["less.csv"], "Subject"),
        (["clash.csv", "--keep", "fit"], "rename"),
        (["sleep.parquet", "--keep", "Dais"], "Days"),
        (["sleep.parquet", "--type", "logit"], "'response' or 'link'"),
        (["sleep.parquet", "--interval", "narrow"], "prediction"),
        (["sleep.parquet", "--interval", "prediction", "--level", "95"], "--level 95.0: give"),
        (["sleep.parquet", "--include", "Batch"], "Subject"),
    ):
        assert main(["predict", "m", *words, "--out", "p.csv"]) == 2, words
        assert message in capsys.readouterr().err
        assert not Path("p.csv").exists()


def test_not_converged_is_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", FORMULA, "sleep.parquet", "--max-iterations", "1"]) == 0
    out, err = capsys.readouterr()
    assert "Linear mixed model" in out
    assert err.startswith("warning: not converged after")
    assert "Raise --max-iterations, start from a simpler fit (--start)" in err


def test_interrupt_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object, **kwargs: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("ranef.result.front.fit_gaussian", interrupted)
    before = sorted(folder.rglob("*"))
    assert main(["fit", FORMULA, "sleep.parquet", "--out", "m"]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")
    assert sorted(folder.rglob("*")) == before


def test_an_unexpected_error_asks_for_a_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object, **kwargs: object) -> NoReturn:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("ranef.result.front.fit_gaussian", broken)
    assert main(["fit", FORMULA, "sleep.parquet"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: unexpected ZeroDivisionError: by nought; please report")
    assert "Traceback" not in err
    monkeypatch.setenv("RANEF_DEBUG", "1")
    assert main(["fit", FORMULA, "sleep.parquet"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_is_silent(folder: Path) -> None:
    assert main(["fit", FORMULA, "sleep.parquet", "--out", "m", "-q"]) == 0
    pq.write_table(sleepstudy().take([row % 180 for row in range(200_000)]), "long.parquet")
    command = [sys.executable, "-c", "import sys; from ranef.cli import main; sys.exit(main())"]
    process = subprocess.Popen(
        [*command, "predict", "m", "long.parquet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().strip().strip('"') == "fit"
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0


def test_a_formula_can_be_pasted_into_a_shell() -> None:
    assert quoted("y ~ x + (1 | g)") == '"y ~ x + (1 | g)"'
    assert quoted("`the y` ~ 1 + (1 | g)") == "'`the y` ~ 1 + (1 | g)'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise max_iterations, or start from a fit (start=)", "raise --max-iterations, or start from a fit (--start)"),
        ("start=Path: give a fit", "--start Path: give a fit"),
        ("new_levels='all' is not known", "--new-levels 'all' is not known"),
        ("the first is 'start=3'; no such file: a/start=3", "the first is 'start=3'; no such file: a/start=3"),
        ("restart=1, new_levels_too", "restart=1, new_levels_too"),
    ],
)
def test_messages_name_flags(text: str, said: str) -> None:
    assert in_flags(text, ["start", "max_iterations", "new_levels"]) == said
