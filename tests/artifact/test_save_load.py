"""What is saved is what is loaded, to the last bit."""

import errno
import hashlib
import json
import os
from dataclasses import fields, is_dataclass, replace

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file

from ranef.artifact import load, save
from ranef.artifact.manifest import SCHEMA
from ranef.artifact.model import VarianceRow
from ranef.data import load as data
from ranef.design.build import build_design
from ranef.engine.threads import engine
from ranef.errors import ModelFileError
from ranef.family import negative_binomial, ordinal, poisson
from ranef.formula import parse
from ranef.learn.gaussian import fit_gaussian
from ranef.learn.generalized import fit_generalized
from ranef.learn.noise import standard_error
from ranef.score import predict
from ranef.table import Levels, open_source


def fit(formula, table):
    with engine(1) as pool:
        return fit_gaussian(build_design(parse(formula), open_source(table)), "reml", pool)


def odd_names():
    rng = np.random.default_rng(0)
    table = {
        "user / id": [f"ü/{i % 7}" for i in range(60)],
        "..": [f"{'😀' * (i % 5)}" for i in range(60)],
        "x": rng.normal(size=60),
    }
    table["y"] = rng.normal(size=60) + rng.normal(size=7)[np.arange(60) % 7] + rng.normal(size=5)[np.arange(60) % 5]
    return table


def dates():
    rng = np.random.default_rng(3)
    days = np.datetime64("2024-02-28", "s") + np.arange(40) % 8 * np.timedelta64(86_400, "s")
    week = pa.array(np.arange(40) % 4, pa.uint8())
    return pa.table({"day": pa.array(days), "week": week, "y": rng.normal(size=40) + np.arange(40) % 8})


CASES = {
    "slopes": ("Reaction ~ poly(Days, 2) + (Days | Subject)", lambda: data("sleepstudy")),
    "nested": ("strength ~ 1 + (1 | batch/cask)", lambda: data("pastes")),
    "crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", lambda: data("penicillin")),
    "ordered factors": ("angle ~ recipe * temperature + (1 | recipe:replicate)", lambda: data("cake")),
    "no fixed part": ("Yield ~ 0 + (1 | Batch)", lambda: data("dyestuff")),
    "zero variance": ("Yield ~ 1 + (1 | Batch)", lambda: data("dyestuff2")),
    "odd names": ("y ~ x + (1 | `user / id`) + (1 | `..`)", odd_names),
    "types of levels": ("y ~ 1 + (1 | day) + (1 | week)", dates),
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    formula, table = CASES[request.param]
    return fit(formula, table()), table()


@pytest.fixture(scope="module")
def sleep():
    return fit("Reaction ~ Days + (Days | Subject)", data("sleepstudy"))


def assert_same(a, b, place="model"):
    assert type(a) is type(b), place
    if isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), place
        assert a.tobytes() == b.tobytes(), place
    elif isinstance(a, Levels):
        assert a.values.type == b.values.type, place
        assert a.values.equals(b.values), place
        assert (a.ordered, a.declared, a.labels) == (b.ordered, b.declared, b.labels), place
    elif is_dataclass(a):
        for field in fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name), f"{place}.{field.name}")
    elif isinstance(a, msgspec.Struct):
        for name in a.__struct_fields__:
            assert_same(getattr(a, name), getattr(b, name), f"{place}.{name}")
    elif isinstance(a, dict):
        assert list(a) == list(b), place
        for key in a:
            assert_same(a[key], b[key], f"{place}[{key!r}]")
    elif isinstance(a, tuple):
        assert len(a) == len(b), place
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{place}[{number}]")
    else:
        assert a == b or (a != a and b != b), place


def sealed(path):
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_round_trip(case, tmp_path):
    model, table = case
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert_same(model, loaded)
    for interval in (None, "prediction"):
        before = predict(model, open_source(table), interval=interval)
        after = predict(loaded, open_source(table), interval=interval)
        assert_same(before, after)


@pytest.mark.parametrize(
    "member", [poisson(), negative_binomial(), ordinal("probit", "equidistant")], ids=lambda f: f.name
)
def test_other_families(member, tmp_path):
    # ratings of 1 to 5 are counts and ordered categories
    table = data("insteval").slice(0, 500)
    with engine(1) as pool:
        design = build_design(parse("y ~ service + (1 | d)"), open_source(table), kind=member.kind)
        model = fit_generalized(design, member, "laplace", pool)
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert_same(model, loaded)
    assert loaded.family == member.with_categories(design.spec.response_levels)
    # a standard error may be missing
    parameters = tuple(msgspec.structs.replace(one, se=float("nan")) for one in model.info.family_parameters)
    without = replace(model, info=msgspec.structs.replace(model.info, family_parameters=parameters))
    save(without, tmp_path / "model")
    assert_same(without, load(tmp_path / "model"))


def test_numbers_that_json_lacks(sleep, tmp_path):
    rows = (VarianceRow("g", "nan", None, float("inf"), float("-inf"), float("nan"), -0.0),)
    info = msgspec.structs.replace(sleep.info, deviance=float("nan"), sigma=5e-324, gradient=0.1 + 0.2)
    info = msgspec.structs.replace(
        info, history=(msgspec.structs.replace(sleep.info.history[0], deviance=float("inf")),)
    )
    odd = type(sleep)(**{**sleep.__dict__, "varcorr": rows, "info": info})
    save(odd, tmp_path / "model")
    assert_same(odd, load(tmp_path / "model"))
    json.loads((tmp_path / "model" / "manifest.json").read_text(), parse_constant=pytest.fail)


def test_arrays_of_any_strides(sleep, tmp_path):
    turned = type(sleep)(**{**sleep.__dict__, "vcov": np.asfortranarray(sleep.vcov), "beta": sleep.beta[::-1][::-1]})
    save(turned, tmp_path / "model")
    assert_same(sleep, load(tmp_path / "model"))


def test_without_the_posterior(sleep, tmp_path):
    save(sleep, tmp_path / "model", posterior=False)
    loaded = load(tmp_path / "model")
    assert loaded.posterior is None
    source = data("sleepstudy")
    np.testing.assert_array_equal(predict(loaded, open_source(source)).fit, predict(sleep, open_source(source)).fit)
    save(loaded, tmp_path / "again")
    assert load(tmp_path / "again").posterior is None


def test_directory(sleep, tmp_path):
    target = tmp_path / "not" / "yet" / "there"
    save(sleep, target)
    assert [entry.name for entry in target.parent.iterdir()] == ["there"]
    names = sorted(entry.relative_to(target).as_posix() for entry in target.rglob("*") if entry.is_file())
    # the factor and its column share their levels
    assert names == ["arrays.safetensors", "levels/0.parquet", "manifest.json"]
    manifest = json.loads((target / "manifest.json").read_text())
    assert (manifest["format"], manifest["schema"]) == ("ranef model", 4)


def test_a_model_of_the_third_schema_is_read(sleep, tmp_path):
    save(sleep, tmp_path / "model")
    path = tmp_path / "model" / "manifest.json"
    manifest = json.loads(path.read_text())
    # there were no latent terms, bags, walks and tables of attributes
    for name in ("latent", "attributes"):
        del manifest[name]
    for name in ("latent", "periods"):
        del manifest["spec"][name]
    for group in manifest["groups"]:
        del group["owners"]
    path.write_text(json.dumps({**manifest, "schema": 3}))
    assert_same(sleep, load(tmp_path / "model"))


def test_a_newer_model_is_refused(sleep, tmp_path):
    save(sleep, tmp_path / "model")
    path = tmp_path / "model" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": SCHEMA + 1, "written_by": "9.1"}))
    with pytest.raises(ModelFileError, match=rf"in format {SCHEMA + 1}; this ranef, .*: install ranef 9\.1 or newer"):
        load(tmp_path / "model")


def test_a_model_of_the_second_schema_is_read(sleep, tmp_path):
    save(sleep, tmp_path / "model")
    path = tmp_path / "model" / "manifest.json"
    manifest = json.loads(path.read_text())
    # there were Gaussian models only
    del manifest["family_parameters"]
    arrays = load_file(tmp_path / "model" / "arrays.safetensors")
    del arrays["phi"]
    save_file(arrays, tmp_path / "model" / "arrays.safetensors")
    manifest["files"]["arrays.safetensors"] = sealed(tmp_path / "model" / "arrays.safetensors")
    path.write_text(json.dumps({**manifest, "schema": 2}))
    assert_same(sleep, load(tmp_path / "model"))


def test_a_model_of_the_first_schema_is_read(sleep, tmp_path):
    save(sleep, tmp_path / "model")
    path = tmp_path / "model" / "manifest.json"
    manifest = json.loads(path.read_text())
    # then the response was a number: its operation and label stood in the spec themselves
    response = manifest["spec"].pop("response")
    manifest["spec"] |= {"response": response["value"], "response_label": response["label"]}
    path.write_text(json.dumps({**manifest, "schema": 1}))
    assert_same(sleep, load(tmp_path / "model"))


@pytest.fixture(scope="module")
def stochastic():
    with engine(1) as pool:
        design = build_design(parse("diameter ~ 1 + (1 | plate) + (1 | sample)"), open_source(data("penicillin")))
        return fit_gaussian(design, "reml", pool, solver="stochastic")


def test_probes_are_kept_and_models_from_before_them_are_read(stochastic, tmp_path):
    draws = stochastic.info.deviance_draws
    assert stochastic.info.deviance == pytest.approx(np.mean(draws), rel=1e-12)
    assert stochastic.info.deviance_error == pytest.approx(standard_error(np.array(draws)))
    save(stochastic, tmp_path / "model")
    assert_same(stochastic, load(tmp_path / "model"))
    path = tmp_path / "model" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["info"].pop("deviance_draws")
    path.write_text(json.dumps(manifest))
    assert_same(load(tmp_path / "model").info, msgspec.structs.replace(stochastic.info, deviance_draws=()))


def test_draws_of_the_first_models_are_read(stochastic, tmp_path):
    """They name one group, and hold what is known of its levels alone."""
    save(stochastic, tmp_path / "model")
    path, arrays_path = tmp_path / "model" / "manifest.json", tmp_path / "model" / "arrays.safetensors"
    manifest, arrays = json.loads(path.read_text()), load_file(arrays_path)
    posterior = stochastic.posterior
    (group,) = posterior.chain
    known = [arrays.pop(f"draws.known.{g}") for g in range(2)]
    save_file({**arrays, "draws.own": known[group]}, arrays_path)
    manifest["files"]["arrays.safetensors"] = sealed(arrays_path)
    path.write_text(json.dumps({**manifest, "draws": {"group": group}}))
    expected = tuple(array if g == group else np.zeros_like(array) for g, array in enumerate(posterior.known))
    assert_same(replace(posterior, known=expected), load(tmp_path / "model").posterior)
    for wrong in ({"group": 2}, {"group": -1}, {"chain": [0, 2]}, {}):
        path.write_text(json.dumps({**manifest, "draws": wrong}))
        with pytest.raises(ModelFileError, match="does not fit together"):
            load(tmp_path / "model")


def test_a_model_takes_the_place_of_another(case, sleep, tmp_path):
    save(case[0], tmp_path / "model")
    save(sleep, str(tmp_path / "model"))
    assert_same(sleep, load(str(tmp_path / "model")))
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    (tmp_path / "empty").mkdir()
    save(sleep, tmp_path / "empty")
    assert_same(sleep, load(tmp_path / "empty"))


def test_a_link_to_a_model_stays_a_link(sleep, tmp_path):
    save(sleep, tmp_path / "v1")
    (tmp_path / "current").symlink_to("v1")
    save(sleep, tmp_path / "current")
    assert (tmp_path / "current").is_symlink()
    assert_same(sleep, load(tmp_path / "current"))


def test_nothing_else_is_replaced(sleep, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ModelFileError, match="is a file"):
        save(sleep, tmp_path / "file")
    with pytest.raises(ModelFileError, match="cannot be written"):
        save(sleep, tmp_path / "file" / "below")
    for text in ("{}", '{"format": "other", "schema": 1, "written_by": ""}', "no json", None):
        folder = tmp_path / f"folder{text is None or len(text)}"
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
        if text is not None:
            (folder / "manifest.json").write_text(text)
        with pytest.raises(ModelFileError, match="something else than a ranef model"):
            save(sleep, folder)
        assert (folder / "notes.txt").read_text() == "mine"
    save(sleep, tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(ModelFileError, match=r"also notes\.txt, which would be lost"):
        save(sleep, tmp_path / "model")


@pytest.mark.parametrize("call", ["fsync", "mkdir"])
def test_a_full_disk_leaves_the_old_model(sleep, tmp_path, monkeypatch, call):
    save(sleep, tmp_path / "model")

    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(ModelFileError, match=f"cannot be written .* {os.strerror(errno.ENOSPC)}"):
            save(sleep, tmp_path / "model")
    assert_same(sleep, load(tmp_path / "model"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("call", "fewest"), [("mkdir", 2), ("fsync", 4), ("rename", 1)])
@pytest.mark.parametrize("there", [False, True])
def test_an_interrupt_anywhere_leaves_a_whole_model_or_none(sleep, tmp_path, monkeypatch, call, fewest, there, after):
    """Ctrl-C before or after each call of the system in turn, until a save comes through."""
    other = replace(sleep, beta=sleep.beta + 1)
    usual = getattr(os, call)
    for place in range(100):
        folder = tmp_path / str(place)
        target = folder / "above" / "model"
        folder.mkdir()
        if there:
            save(other, target)
        calls = iter(range(100))

        def interrupted(*args, place=place, calls=calls, **options):
            last = next(calls) == place
            try:
                if after or not last:
                    usual(*args, **options)
            finally:
                if last:
                    raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, call, interrupted)
            try:
                save(sleep, target)
                through = True
            except KeyboardInterrupt:
                through = False
        if through or there or target.exists():
            assert [path.name for path in folder.glob("*/*")] == ["model"]
            found = load(target)
            assert_same(sleep if through or not there or np.array_equal(found.beta, sleep.beta) else other, found)
        else:
            assert list(folder.iterdir()) == []
        if through:
            break
    assert place >= fewest
