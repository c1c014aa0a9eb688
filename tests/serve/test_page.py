"""The page for people in a real browser: a list with reasons, and what if."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import ranef
from ranef.serve.app import make_app
from ranef.serve.service import Service
from ranef.serve.settings import Settings

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
uvicorn = pytest.importorskip("uvicorn")

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    rng = np.random.default_rng(1)
    user, item = rng.integers(0, 20, 400), rng.integers(0, 15, 400)
    y = 3 + rng.normal(size=20)[user] + rng.normal(size=15)[item] + 0.5 * rng.normal(size=400)
    y += (rng.normal(size=(20, 2))[user] * rng.normal(size=(15, 2))[item]).sum(axis=1)
    path = tmp_path_factory.mktemp("models") / "model"
    data = {"stars": y, "user": np.array([f"u{one}" for one in user]), "item": np.array([f"i{one}" for one in item])}
    ranef.fit("stars ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank = 2)", data).save(path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = Service(Settings(str(path)))
    server = uvicorn.Server(uvicorn.Config(make_app(service), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        try:
            options = {"executable_path": CHROMIUM} if CHROMIUM else {}
            browser = playwright.chromium.launch(args=["--no-sandbox"], **options)
        except api.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        page = browser.new_page()
        page.wrong = []
        page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.goto(address)
        yield page
        browser.close()


def listed(page: Any) -> list[str]:
    return [one.inner_text() for one in page.locator("ol.items strong").all()]


def test_recommendations_with_reasons_and_what_if(page: Any) -> None:
    page.get_by_text("10 items for user").wait_for()
    assert len(listed(page)) == 10
    first = page.locator("ol.items > li").first
    rows = first.locator("table.bars tr").all()
    addends = [float(row.locator("td.number").inner_text().replace("−", "-")) for row in rows]
    score = float(first.locator(".head").inner_text().split("score ")[1].split(",")[0])
    assert sum(addends) == pytest.approx(score, abs=0.03)
    assert {row.locator("th").inner_text().split(" ")[0] for row in rows} >= {"(Intercept)", "user", "item"}
    assert first.locator(".bar").first.bounding_box()["width"] > 10

    page.get_by_label("user", exact=True).fill("u7")
    page.get_by_role("button", name="Recommend").click()
    page.get_by_text("10 items for user u7").wait_for()
    before = listed(page)
    page.get_by_label("item", exact=True).fill(before[0])
    page.get_by_label("stars").fill("-20")
    page.get_by_role("button", name="Suppose").click()
    page.locator("#supposed li").wait_for()
    page.wait_for_function("was => document.querySelector('ol.items strong').textContent !== was", arg=before[0])
    assert listed(page) != before
    assert page.locator(".moved", has_text="▲").count()
    page.get_by_label(f"No longer suppose {before[0]}").click()
    page.wait_for_function("was => document.querySelector('ol.items strong').textContent === was", arg=before[0])
    assert listed(page) == before

    page.get_by_label("item", exact=True).fill("nothing")
    page.get_by_label("stars").fill("3")
    page.get_by_role("button", name="Suppose").click()
    page.get_by_text("the model has no item 'nothing'").wait_for()
    # the browser itself notes an answer of 422, and nothing else went wrong
    assert all("422" in text for text in page.wrong)


def test_interface_page(page: Any, address: str) -> None:
    page.goto(f"{address}/docs")
    part = page.locator("section", has=page.get_by_role("heading", name="POST /v1/recommend"))
    part.get_by_role("button", name="Send").click()
    part.locator("pre", has_text="known_user").wait_for()
    assert all("422" in text for text in page.wrong)
