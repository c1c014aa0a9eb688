"""Directories that are no model, or no longer one: an error that says which file and why, never a wrong model."""

import hashlib
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from ranef.artifact import load, save
from ranef.data import load as data
from ranef.design.build import build_design
from ranef.engine.threads import engine
from ranef.errors import ModelFileError
from ranef.formula import parse
from ranef.learn.gaussian import fit_gaussian
from ranef.table import open_source


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "pastes"
    with engine(1) as pool:
        design = build_design(parse("strength ~ 1 + (1 | batch/cask)"), open_source(data("pastes")))
        save(fit_gaussian(design, "reml", pool), path)
    return path


@pytest.fixture
def saved(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "pastes")


def edit(change):
    """A damage: ``change`` gets the manifest as data."""

    def damage(path):
        manifest = json.loads((path / "manifest.json").read_text())
        change(manifest)
        (path / "manifest.json").write_text(json.dumps(manifest))

    return damage


def seal(path, name):
    content = (path / name).read_bytes()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(lambda manifest: manifest["files"].__setitem__(name, entry))(path)


def arrays(change):
    """A damage that the checksums do not show: ``change`` gets the arrays, which are then sealed again."""

    def damage(path):
        content = load_file(path / "arrays.safetensors")
        change(content)
        save_file(content, path / "arrays.safetensors")
        seal(path, "arrays.safetensors")

    return damage


def levels(content):
    def damage(path):
        if isinstance(content, bytes):
            (path / "levels/0.parquet").write_bytes(content)
        else:
            pq.write_table(content, path / "levels/0.parquet")
        seal(path, "levels/0.parquet")

    return damage


def cut(name, size):
    return lambda path: (path / name).write_bytes((path / name).read_bytes()[:size])


def flip(name, at):
    def damage(path):
        content = bytearray((path / name).read_bytes())
        content[at] ^= 1
        (path / name).write_bytes(content)

    return damage


def text(content):
    return lambda path: (path / "manifest.json").write_bytes(content)


def remove(name):
    return lambda path: (path / name).unlink()


NOT_A_MODEL = "is not a ranef model"
DAMAGES = {
    "no manifest": (remove("manifest.json"), f"{NOT_A_MODEL}: it has no manifest.json"),
    "foreign manifest": (text(b'{"version": 3}'), f"{NOT_A_MODEL}: its manifest.json does not say 'ranef model'"),
    "manifest a list": (text(b"[]"), NOT_A_MODEL),
    "manifest empty": (text(b""), "manifest.json is not JSON, or cut short"),
    "manifest binary": (text(b'{"a": "\xff\xfe"}'), "manifest.json is not JSON, or cut short"),
    "manifest cut": (cut("manifest.json", 500), "manifest.json is not JSON, or cut short"),
    "newer": (
        edit(lambda m: m.update(schema=7, written_by="9.1", spec=3)),
        r"written by ranef 9\.1 in format 7; this ranef, .*, reads formats up to 4: install ranef 9\.1 or newer",
    ),
    "schema a text": (edit(lambda m: m.update(schema="1")), "another content than a manifest"),
    "field absent": (edit(lambda m: m.pop("groups")), "another content .* missing required field `groups`"),
    "field of a wrong type": (edit(lambda m: m.update(fixed_columns=["a"])), r"another content .*fixed_columns"),
    "unknown operation": (
        edit(lambda m: m["spec"]["response"]["value"].update(type="exec")),
        "another content .*response",
    ),
    "number a text": (edit(lambda m: m["info"].update(sigma="large")), "does not fit together"),
    "fit of a wrong type": (edit(lambda m: m["info"].update(nobs=None)), "does not fit together"),
    "too few groups": (edit(lambda m: m["groups"].pop()), "does not fit together"),
    "levels out of range": (edit(lambda m: m["groups"][0].update(levels=9)), "does not fit together"),
    "file without checksum": (edit(lambda m: m["files"].pop("levels/1.parquet")), "does not fit together"),
    "arrays absent": (remove("arrays.safetensors"), r"arrays\.safetensors is not there"),
    "arrays cut": (cut("arrays.safetensors", 100), r"arrays\.safetensors has 100 bytes where [\d,]+ were written"),
    "arrays changed": (flip("arrays.safetensors", -1), r"arrays\.safetensors is not what was written: its checksum"),
    "an array absent": (arrays(lambda a: a.pop("groups.1.modes")), r"no array 'groups\.1\.modes'"),
    "a wrong shape": (
        arrays(lambda a: a.update(beta=np.zeros(3))),
        r"'beta' is float64 of shape \(3,\) where .* \(1\)",
    ),
    "a wrong rank": (arrays(lambda a: a.update(beta=np.zeros((1, 1)))), r"'beta' is float64 of shape \(1, 1\)"),
    "a wrong dtype": (
        arrays(lambda a: a.update({"groups.0.modes": a["groups.0.modes"].astype(np.float32)})),
        r"'groups\.0\.modes' is float32 .* where float64",
    ),
    "a posterior of another size": (
        arrays(lambda a: a.update({"posterior.dense": np.zeros((5, 5))})),
        r"'posterior\.dense' is float64 of shape \(5, 5\)",
    ),
    "no arrays in the file": (
        lambda path: [(path / "arrays.safetensors").write_bytes(b"nonsense"), seal(path, "arrays.safetensors")],
        r"arrays\.safetensors cannot be read",
    ),
    "levels absent": (remove("levels/1.parquet"), r"1\.parquet is not there"),
    "levels changed": (flip("levels/1.parquet", 60), r"1\.parquet is not what was written"),
    "levels no Parquet": (levels(b"nonsense"), r"0\.parquet cannot be read"),
    "levels too few": (levels(pa.table({"level": ["a"]})), r"0\.parquet has 1 levels, 0 of them null"),
    "levels with null": (levels(pa.table({"level": [None] * 10})), r"0\.parquet has 10 levels, 10 of them null"),
    "levels under another name": (levels(pa.table({"name": ["a"]})), r"0\.parquet cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage(saved, name):
    damage, message = DAMAGES[name]
    load(saved)
    damage(saved)
    with pytest.raises(ModelFileError, match=message) as caught:
        load(saved)
    assert str(saved) in str(caught.value)


def test_no_such_directory(saved):
    with pytest.raises(ModelFileError, match=r"no directory 'paste' in .*; models there are 'pastes'"):
        load(saved.parent / "paste")
    with pytest.raises(ModelFileError, match=r"models there are 'pastes'"):
        load(saved.parent / "zzz")
    with pytest.raises(ModelFileError, match="no models are there"):
        load(saved / "model")
    with pytest.raises(ModelFileError, match=r"there is no directory .*, nor "):
        load(saved.parent / "folder" / "model")


def test_a_file_is_no_model(saved):
    with pytest.raises(ModelFileError, match=r"is a file; a model is a directory"):
        load(saved / "manifest.json")


def test_an_unreadable_file_is_an_error_of_the_model(saved, monkeypatch):
    def refused(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("hashlib.file_digest", refused)
    with pytest.raises(ModelFileError, match="cannot be read: Permission denied"):
        load(saved)
