"""The service answers what the fit answers, refuses with reasons, and never fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ranef
from ranef.result.fit import Fit, load
from ranef.score.merged import unpacked
from ranef.serve.app import make_app
from ranef.serve.service import Service
from ranef.serve.settings import Settings

testclient = pytest.importorskip("starlette.testclient", reason="httpx is not installed")

FORMULA = "y ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank = 2)"


def rows(seed: int = 3, n: int = 600) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 30, n), rng.integers(0, 20, n)
    y = 3 + rng.normal(size=30)[user] * 0.5 + rng.normal(size=20)[item] * 0.5
    y = y + (rng.normal(size=(30, 2))[user] * rng.normal(size=(20, 2))[item]).sum(1) * 0.7 + 0.5 * rng.normal(size=n)
    return {"y": y, "user": user + 100, "item": np.array([f"i{one}" for one in item])}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model"
    ranef.fit(FORMULA, rows()).save(path, seen=True)
    return path


@pytest.fixture(scope="module")
def fit(model: Path) -> Fit:
    return load(model)


@dataclass(frozen=True, eq=False)
class Client:
    """What tests send to a service."""

    http: Any
    service: Service

    def post(self, path: str, **message: Any) -> dict[str, Any]:
        response = self.http.post(path, json=message)
        assert response.status_code == 200, response.text
        return response.json()  # type: ignore[no-any-return]

    def refused(self, path: str, status: int, content: str | bytes) -> str:
        response = self.http.post(path, content=content, headers={"content-type": "application/json"})
        assert response.status_code == status, response.text
        return response.json()["error"]  # type: ignore[no-any-return]


def client_of(path: Path, **options: Any) -> Iterator[Client]:
    service = Service(Settings(str(path), **options))
    with testclient.TestClient(make_app(service), raise_server_exceptions=False) as http:
        yield Client(http, service)


@pytest.fixture(scope="module")
def client(model: Path) -> Iterator[Client]:
    yield from client_of(model)


def test_scores_are_those_of_the_fit(client: Client, fit: Fit) -> None:
    items = [f"i{one}" for one in range(20)]
    found = client.post("/v1/score", user=104, items=items)
    table = {"user": np.full(20, 104), "item": np.array(items)}
    np.testing.assert_allclose([one["score"] for one in found["items"]], fit.predict(table, type="link"), rtol=1e-12)
    np.testing.assert_allclose([one["response"] for one in found["items"]], fit.predict(table), rtol=1e-12)
    assert (found["known_user"], found["fallback"]) == (True, None)
    assert all(one["known_item"] for one in found["items"])


@pytest.mark.filterwarnings("ignore::ranef.errors.UnknownLevelWarning")
def test_unknown_users_and_items_get_the_population(client: Client, fit: Fit) -> None:
    found = client.post("/v1/score", user=7, items=["i3", "none"])
    table = {"user": np.array([7, 7]), "item": np.array(["i3", "none"])}
    np.testing.assert_allclose([one["score"] for one in found["items"]], fit.predict(table, type="link"), rtol=1e-12)
    assert (found["known_user"], found["fallback"]) == (False, "population")
    assert [one["known_item"] for one in found["items"]] == [True, False]
    assert "no user 7" in client.refused("/v1/score", 422, '{"user": 7, "items": ["i3"], "new_levels": "raise"}')
    said = client.refused("/v1/score", 422, '{"user": 104, "items": ["i3", "none"], "new_levels": "raise"}')
    assert "no item 'none'" in said


@pytest.mark.parametrize("user", [104, 7])
def test_recommendations_are_those_of_the_fit(client: Client, fit: Fit, user: int) -> None:
    found = client.post("/v1/recommend", user=user, k=6)
    offline = fit.recommend([user], k=6)
    assert [one["item"] for one in found["items"]] == list(offline["item"])
    np.testing.assert_array_equal([one["score"] for one in found["items"]], offline["score"])
    best = [one["item"] for one in found["items"]]
    less = client.post("/v1/recommend", user=user, k=4, exclude=[best[0], best[2], "none"])
    assert [one["item"] for one in less["items"]] == [best[1], *best[3:6]]
    among = client.post("/v1/recommend", user=user, among=[best[4], best[1], best[1], "none"], exclude=["i19"])
    assert [one["item"] for one in among["items"]] == [best[1], best[4]]
    assert len(client.post("/v1/recommend", user=user, k=1000)["items"]) == 20


def test_events_are_a_row_update_against_the_fit(model: Path, fit: Fit) -> None:
    for client in client_of(model):
        events = [{"user": 7, "item": f"i{one}", "value": value} for one, value in enumerate((5.0, 1.0, 4.5, 2.0))]
        assert client.post("/v1/events", events=events)["accepted"] == 4
        found = client.post("/v1/score", user=7, items=[f"i{one}" for one in range(20)])
        assert (found["known_user"], found["fallback"]) == (False, "events")
        # the same by hand: Bayes' rule for the new user's bias and vector, the items' vectors being uncertain
        inner = fit.model
        places = [inner.groups[1].levels.values.to_pylist().index(f"i{one}") for one in range(20)]
        item = next(group for group in inner.groups if "i0" in group.levels.values.to_pylist())
        places = [item.levels.values.to_pylist().index(f"i{one}") for one in range(20)]
        user = next(group for group in inner.groups if group is not item)
        sides = inner.latent[0].sides
        base = inner.beta[0] + item.modes[places, 0]
        h = np.column_stack([np.ones(20), sides[1][0].vectors.astype(float)[places]])
        prior = np.zeros((3, 3))
        prior[0, 0], prior[1:, 1:] = user.covariance[0, 0], sides[0][0].covariance
        noise = inner.info.sigma**2
        precision = np.linalg.inv(prior) + h[:4].T @ h[:4] / noise
        precision[1:, 1:] += unpacked(sides[1][0].spread[places[:4]], 2).sum(0) / noise
        b = np.linalg.solve(precision, h[:4].T @ (np.array([5.0, 1.0, 4.5, 2.0]) - base[:4]) / noise)
        np.testing.assert_allclose([one["score"] for one in found["items"]], base + h @ b, rtol=1e-7)
        # and offline
        columns = {"user": np.full(4, 7), "item": np.array([f"i{one}" for one in range(4)])}
        folded = fit.fold_in({"y": np.array([5.0, 1.0, 4.5, 2.0]), **columns})
        offline = folded.predict({"user": np.full(20, 7), "item": np.array([f"i{one}" for one in range(20)])})
        np.testing.assert_allclose([one["score"] for one in found["items"]], offline, rtol=1e-6)
        # in pieces it is the same
        for number, one in enumerate(events):
            client.post("/v1/events", events=[{**one, "user": 8}])
            assert number >= 0
        again = client.post("/v1/score", user=8, items=[f"i{one}" for one in range(20)])
        np.testing.assert_allclose(
            [one["score"] for one in again["items"]], [one["score"] for one in found["items"]], rtol=1e-9
        )


def test_explanations_are_those_of_the_fit(client: Client, fit: Fit) -> None:
    found = client.post("/v1/explain", user=104, item="i3")
    offline = fit.explain(104, "i3")
    addends = [one["addend"] for one in found["addends"]]
    np.testing.assert_allclose(addends, offline.addends["addend"], rtol=1e-12)
    assert [one["name"] for one in found["addends"]] == list(offline.addends["name"])
    assert [one["n"] for one in found["addends"]] == list(offline.addends["n"])
    assert found["score"] == pytest.approx(sum(addends), rel=1e-12)
    assert found["past"] == [] or found["past"][0]["item"] == offline.past["item"][0]


@pytest.mark.parametrize("user", [104, 7])
def test_explanations_of_changed_users_sum_to_their_scores(client: Client, user: int) -> None:
    supposed = [{"item": f"i{one}", "value": value} for one, value in enumerate((5.0, 1.0, 4.0))]
    found = client.post("/v1/explain", user=user, item="i4", what_if=supposed)
    scored = client.post("/v1/score", user=user, items=["i4"], what_if=supposed)["items"][0]
    assert sum(one["addend"] for one in found["addends"]) == pytest.approx(scored["score"], rel=1e-9)
    assert found["response"] == pytest.approx(scored["response"], rel=1e-9)
    assert {one["item"] for one in found["past"]} >= ({"i0", "i1", "i2"} if user == 7 else set())
    before = client.post("/v1/explain", user=user, item="i4")
    own = [next(one for one in each["addends"] if one["group"] == "user") for each in (before, found)]
    assert own[1]["n"] == own[0]["n"] + 3
    assert 0 < own[1]["shrinkage"] < own[0]["shrinkage"] <= 1


def test_what_the_user_has_is_left_out(client: Client, fit: Fit) -> None:
    found = client.post("/v1/recommend", user=104, k=50, exclude_seen=True)
    has = set(rows()["item"][rows()["user"] == 104])
    assert [one["item"] for one in found["items"]] == list(fit.recommend([104], k=50, exclude="seen")["item"])
    assert has.isdisjoint(one["item"] for one in found["items"])
    supposed = [{"item": "i5", "value": 3.0}]
    less = client.post("/v1/recommend", user=7, k=50, exclude_seen=True, what_if=supposed)
    assert len(less["items"]) == 19


def test_what_if_is_not_kept(client: Client) -> None:
    before = client.post("/v1/recommend", user=104)
    supposed = [{"item": before["items"][0]["item"], "value": -5.0}]
    changed = client.post("/v1/recommend", user=104, what_if=supposed)
    assert changed["items"][0] != before["items"][0]
    assert client.post("/v1/recommend", user=104) == before


def test_events_outlive_the_process(model: Path, store_url: str) -> None:
    events = [{"user": user, "item": "i1", "value": 5.0} for user in (7, 104)]
    seen = []
    for _ in range(2):
        for client in client_of(model, store=store_url):
            if not seen:
                assert client.post("/v1/events", events=events)["kept"]
            seen.append([client.post("/v1/recommend", user=user)["items"] for user in (7, 104)])
    assert seen[0] == seen[1]
    for client in client_of(model):
        assert client.post("/v1/recommend", user=104)["items"] != seen[0][1]


def test_a_new_model_takes_over(tmp_path: Path, fit: Fit) -> None:
    path = tmp_path / "model"
    fit.save(path)
    for client in client_of(path, poll=0.05):
        old = client.post("/v1/recommend", user=104)
        client.post("/v1/events", events=[{"user": 7, "item": "i1", "value": 5.0}])
        (path / "manifest.json").write_text("{")
        ranef.fit("y ~ 1 + (1 | user) + (1 | item)", rows(4)).save(tmp_path / "other")
        for _ in range(100):
            assert client.post("/v1/recommend", user=104) == old
            if 'ranef_reloads_total{result="failed"} 1.0' in client.http.get("/metrics").text:
                break
        else:
            pytest.fail("the broken model went unnoticed")
        (tmp_path / "other").rename(tmp_path / "third")
        (path / "manifest.json").rename(tmp_path / "broken")
        for name in ("arrays.safetensors", "levels"):
            (path / name).rename(tmp_path / f"old-{name}")
        for part in (tmp_path / "third").iterdir():
            if part.name != "manifest.json":
                part.rename(path / part.name)
        (tmp_path / "third" / "manifest.json").rename(path / "manifest.json")
        for _ in range(400):
            new = client.post("/v1/recommend", user=104)
            if new["model"] != old["model"]:
                break
        assert new["model"] != old["model"]
        assert client.post("/v1/recommend", user=7)["fallback"] == "events"


BAD = [
    ("", 400),
    ("{", 400),
    ("[" * 100_000, 422),
    (b"\xff", 400),
    ("null", 422),
    ("[]", 422),
    ("{}", 422),
    ('{"user": 104}', 422),
    ('{"user": 104, "items": []}', 422),
    ('{"user": 104, "items": ["i1"], "formula": "y ~ x"}', 422),
    ('{"user": null, "items": ["i1"]}', 422),
    ('{"user": true, "items": ["i1"]}', 422),
    ('{"user": [104], "items": ["i1"]}', 422),
    ('{"user": "104", "items": ["i1"]}', 422),
    ('{"user": 104, "items": [1]}', 422),
    ('{"user": NaN, "items": ["i1"]}', 400),
    ('{"user": 1e999, "items": ["i1"]}', 422),
    (f'{{"user": {"9" * 5000}, "items": ["i1"]}}', 422),
    (f'{{"user": 104, "items": ["{"x" * 2000}"]}}', 422),
    (f'{{"user": 104, "items": [{",".join(["1"] * 10_001)}]}}', 422),
    ('{"user": 104, "items": ["\\ud800"]}', 400),
    ('{"user": 104, "items": ["i1"], "new_levels": "maybe"}', 422),
    ('{"user": 104, "items": ["i1"], "what_if": [{"item": "none", "value": 1}]}', 422),
    ('{"user": 104, "items": ["i1"], "what_if": [{"item": "i1", "value": "five"}]}', 422),
    ('{"user": 104, "items": ["i1"], "what_if": [{"item": "i1", "value": 1, "weight": 0}]}', 422),
]


@pytest.mark.parametrize(("content", "status"), BAD, ids=[str(one[0])[:60] for one in BAD])
def test_bad_bodies(client: Client, content: str | bytes, status: int) -> None:
    assert client.refused("/v1/score", status, content)


def test_bad_events_and_counts(client: Client) -> None:
    for body in (
        '{"events": []}',
        '{"events": [{"user": 1, "item": "none", "value": 1}]}',
        '{"events": [{"user": 1}]}',
    ):
        assert client.refused("/v1/events", 422, body)
    for k in ("0", "1001", "2.5", "-1", '"3"', "null"):
        assert "k" in client.refused("/v1/recommend", 422, f'{{"user": 104, "k": {k}}}')
    assert client.http.post("/v1/score", content="{}").status_code == 415
    big = client.http.post("/v1/score", content=b" " * (1 << 21), headers={"content-type": "application/json"})
    assert big.status_code == 413
    assert client.http.get("/v1/score").status_code == 405
    assert "error" in client.http.get("/nothing").json()


def test_a_token_is_asked_for(model: Path, tmp_path: Path) -> None:
    token = "correct-horse-battery"
    (tmp_path / "token").write_text(token + "\n")
    for client in client_of(model, token_file=str(tmp_path / "token")):
        for path in ("/v1/model", "/metrics"):
            assert client.http.get(path).status_code == 401
            for wrong in ("Bearer", "Bearer wrong", f"Basic {token}", f"Bearer {token}x"):
                assert client.http.get(path, headers={"authorization": wrong}).status_code == 401
            assert client.http.get(path, headers={"authorization": f"Bearer {token}"}).status_code == 200
        assert client.http.post("/v1/score", json={}).status_code == 401
        for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz"):
            assert client.http.get(path).status_code == 200
    (tmp_path / "short").write_text("abc")
    with pytest.raises(ranef.errors.OptionError, match="16 ASCII"):
        Service(Settings(str(model), token_file=str(tmp_path / "short")))


def test_what_is_said_of_the_model(client: Client) -> None:
    found = client.http.get("/v1/model").json()
    assert (found["formula"], found["user"], found["item"], found["users"], found["items"]) == (
        FORMULA,
        "user",
        "item",
        30,
        20,
    )
    assert found["events"]
    assert client.http.get("/readyz").json()["model"] == found["model"]
    assert "ranef_request_seconds_bucket" in client.http.get("/metrics").text
    assert client.http.get("/openapi.json").json()["openapi"] == "3.1.0"


@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("y ~ 1 + (1 | user) + (1 | item)", "bernoulli"),
        ("y ~ 1 + (1 | user) + (1 | item)", "ordinal"),
        ("1 ~ latent(user, item, rank = 2)", "implicit"),
        ("y ~ 1 + (1 | user) + (1 | item) + (1 | user:item)", "gaussian"),
    ],
)
@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
def test_other_models(tmp_path: Path, formula: str, family: str) -> None:
    data = rows(n=300)
    if family == "bernoulli":
        data["y"] = (data["y"] > 3).astype(np.int64)
    elif family == "ordinal":
        data["y"] = np.digitize(data["y"], [2.5, 3.5])
    fit = ranef.fit(
        formula, data, family=family, **({"unobserved": 0.1, "penalty": 0.1} if family == "implicit" else {})
    )
    fit.save(tmp_path / "model")
    for client in client_of(tmp_path / "model"):
        table = {"user": np.full(5, 104), "item": np.array([f"i{one}" for one in range(5)])}
        found = client.post("/v1/score", user=104, items=table["item"].tolist())["items"]
        kind = {"type": "response"} if family == "ordinal" else {"type": "link"} if family != "implicit" else {}
        wanted = fit.predict(table, **kind)
        if family == "ordinal":
            wanted = np.column_stack([wanted[name] for name in wanted]) if isinstance(wanted, dict) else wanted
        got = [one["response" if family == "ordinal" else "score"] for one in found]
        np.testing.assert_allclose(got, wanted, rtol=1e-10)
        event = {"events": [{"user": 104, "item": "i1", "value": 1}]}
        response = client.http.post("/v1/events", json=event)
        assert response.status_code == (422 if family == "implicit" else 200), response.text


def test_serving_loads_neither_compiler_nor_pandas(model: Path) -> None:
    code = f"""
import json, sys
from ranef.serve.app import make_app
from ranef.serve.service import Service
from ranef.serve.settings import Settings
from ranef.serve import handlers
from ranef.serve.messages import *
service = Service(Settings({str(model)!r}))
make_app(service)
handlers.recommend(service.online, RecommendRequest(104))
handlers.score(service.online, ScoreRequest(104, ["i1"]))
service.log.append(handlers.check_events(service.online, EventsRequest([Event(104, "i1", 3.0)])))
service.online.catch_up()
assert service.online.changed == 1
print(json.dumps([name for name in ("numba", "llvmlite", "pandas") if name in sys.modules]))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout) == []


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(["user", "items", "k", "exclude", "among", "new_levels", "what_if", "events", "item", "value"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/v1/score", "/v1/recommend", "/v1/events"]),
    body=ANYTHING | st.dictionaries(FIELDS, ANYTHING | st.sampled_from([104, "i1", ["i1"]]), max_size=6),
)
def test_no_body_breaks_it(client: Client, path: str, body: Any) -> None:
    content = json.dumps(body, allow_nan=False, ensure_ascii=True)
    response = client.http.post(path, content=content, headers={"content-type": "application/json"})
    assert response.status_code in (200, 400, 422), response.text
    assert response.status_code == 200 or response.json()["error"]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_need_nothing_from_elsewhere(client: Client, path: str) -> None:
    response = client.http.get(path)
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not any(f"{scheme}://" in response.text for scheme in ("http", "https"))
