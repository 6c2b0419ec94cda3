"""The page of a JupyterHub's service, as an admin of the Hub sees it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect
from standins.hub_api import HubApi
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.server import serving_kernel
from modelcompose_jupyter.server.access import Access
from modelcompose_jupyter.server.catalog import Catalog
from modelcompose_jupyter.server.jupyterhub import HubUsers
from modelcompose_jupyter.server.server import Server, ServerSettings

from .test_dashboard import ONE

pytest.importorskip("jupyterhub")


@pytest.fixture
def hub() -> Iterator[HubApi]:
    api = HubApi()
    yield api
    api.close()


@pytest.fixture
def service(host: LocalHost, hub: HubApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name, value in hub.environment.items():
        monkeypatch.setenv(name, value)
    catalog = Catalog.of(load_document(ONE))
    server = Server(
        host,
        lambda: catalog,
        Access("127.0.0.1", identities=HubUsers(hub.service)),
        ServerSettings(port=0, root_path=hub.service.prefix),
        serving_kernel._hub_pages(hub.service),
    ).start()
    yield server
    server.close()


def log_in(page: Page, service: Server, token: str) -> None:
    """Open the page, and come back from the Hub."""
    home = f"{service.origin}/services/model/"
    to = page.context.request.get(home, max_redirects=0).headers["location"]
    state = parse_qs(urlsplit(to).query)["state"][0]
    page.goto(f"{home}oauth_callback?code={token}&state={state}")
    expect(page).to_have_url(home)


def test_the_page_shows_what_goes_on_and_stops_it(
    page: Page,
    service: Server,
    hub: HubApi,
    models: ScriptedModels,
    errors: list[str],
    elsewhere: list[str],
) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    log_in(page, service, hub.add("tia", admin=True))
    expect(page.get_by_role("heading", name="Tell a story")).to_be_visible()
    expect(page.get_by_text("There are none.")).to_be_visible()
    models.hold = ("secret",)
    headers = {"Authorization": f"Bearer {hub.add('ada')}"}
    body = {"input": {"prompt": "secret"}, "wait_for_completion": False}
    begun = httpx.post(f"{service.url}/workflows/runs", json=body, headers=headers, trust_env=False)
    run = begun.json()["task_id"]
    stop = page.get_by_role("button", name=f"Stop run {run} of ada")
    expect(stop).to_be_in_viewport()  # by itself, and though the table is wider
    stop.focus()
    since = page.locator(f'tr:has-text("{run}") td').nth(5)
    before = since.inner_text()
    expect(since).not_to_have_text(before)
    expect(stop).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator('[data-state="cancelled"]')).to_be_visible()
    expect(stop).to_have_count(0)
    assert "secret" not in page.content()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert errors == elsewhere == []
