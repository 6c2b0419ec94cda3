"""A real browser, and the applications that it opens notebooks in.

Servers and browser live as long as the tests of this folder run; page, folder and kernel are new
for each test. Without Chromium the tests are skipped, or fail where MODELCOMPOSE_BROWSER=required.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    Page,
    Request,
    ViewportSize,
    expect,
    sync_playwright,
)
from standins.ipykernels import kernelspec

import modelcompose_jupyter

from .pages import Jupyter, Lab, Notebook7, Voila, leave
from .servers import Server, free_port, serve
from .traffic import Traffic

VIEWPORT = (1100, 800)

# Where Jupyter finds the package's own template and extension, also where it is not installed.
PACKAGE = Path(modelcompose_jupyter.__file__).parent
TEMPLATES = PACKAGE / "dashboard" / "share" / "jupyter"
LABEXTENSION = PACKAGE / "labextension"

# No page may depend on the network, and none does by accident.
LOOPBACK_ONLY = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"

# Notebook 7.6 says this by itself, of every notebook or now and then.
NOTEBOOK_7_NOISE = re.compile(
    r"Cannot read properties of undefined \(reading 'schema'\)"
    r"|Command 'filebrowser:open-path' not registered\."
    r"|Could not restore the debugger state"
)

expect.set_options(timeout=30_000)


def chromium() -> str:
    """The browser's executable; without one, skip the test, or fail it where one is required."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    for name in filter(None, names):
        if executable := shutil.which(name):
            return executable
    reason = "no Chromium: install it, or name its executable in CHROMIUM"
    if os.environ.get("MODELCOMPOSE_BROWSER") == "required":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="package", autouse=True)
def ends_in_order() -> Iterator[None]:
    """A terminated run of tests ends as an interrupted one does: its servers end with it."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


# Playwright has an asyncio loop running in this thread while it is there, which keeps others from
# running theirs: it must be gone before the tests of other folders.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    executable = chromium()
    with sync_playwright() as playwright:
        options = ["--disable-gpu", LOOPBACK_ONLY]
        browser = playwright.chromium.launch(executable_path=executable, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where JupyterLab and Notebook 7 keep a user's settings."""
    return tmp_path_factory.mktemp("settings")


@pytest.fixture(scope="package")
def jupyter_environment(tmp_path_factory: pytest.TempPathFactory, settings: Path) -> dict[str, str]:
    """What Jupyter and IPython have in a user's home, all new."""
    home = tmp_path_factory.mktemp("home")
    shared = tmp_path_factory.mktemp("shared")
    if LABEXTENSION.exists():
        shutil.copytree(LABEXTENSION, shared / "labextensions" / "modelcompose-jupyter")
    return {
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        # What was there are kernels on other versions of ipykernel.
        "JUPYTER_PATH": os.pathsep.join([str(TEMPLATES), str(shared), os.environ["JUPYTER_PATH"]]),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }


@pytest.fixture(scope="package")
def jupyter_server(
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    jupyter_environment: dict[str, str],
) -> Iterator[Server]:
    """The server of JupyterLab and of Notebook 7."""
    with _jupyter(tmp_path_factory.mktemp("jupyter"), jupyter_environment) as server:
        yield server


@pytest.fixture(scope="package")
def bare_server(
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    jupyter_environment: dict[str, str],
) -> Iterator[Server]:
    """A server of JupyterLab that has the package's extension for Lab, and not its own half."""
    without = "--ServerApp.jpserver_extensions={'modelcompose_jupyter': False}"
    with _jupyter(tmp_path_factory.mktemp("bare"), jupyter_environment, without) as server:
        yield server


def _jupyter(
    folder: Path, environment: dict[str, str], *options: str
) -> AbstractContextManager[Server]:
    port = free_port()
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        "--LabApp.news_url=",
        "--LabApp.expose_app_in_browser=True",
        "--JupyterNotebookApp.expose_app_in_browser=True",
        *options,
    ]
    return serve(command, port, folder, environment)


@pytest.fixture(scope="package")
def voila_server(
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    jupyter_environment: dict[str, str],
) -> Iterator[Server]:
    port = free_port()
    command = [
        *(sys.executable, "-m", "voila", "--no-browser", "--show_tracebacks=True"),
        "--Voila.ip=127.0.0.1",
        f"--port={port}",
        # It is of no use in Voila, and says so in the console.
        "--VoilaConfiguration.extension_denylist=@jupyter-notebook/lab-extension",
        # With it, Voila 0.5.13 refuses its own pages' word that they are left, and keeps kernels.
        "--Voila.tornado_settings=disable_check_xsrf=True",
    ]
    with serve(command, port, tmp_path_factory.mktemp("voila"), jupyter_environment) as server:
        yield server


@pytest.fixture
def errors() -> list[str]:
    """What went wrong in the page by itself: uncaught errors, and errors in its console."""
    return []


@pytest.fixture
def elsewhere() -> list[str]:
    """URLs that the page asked other hosts for (and did not get)."""
    return []


@pytest.fixture
def traffic() -> Traffic:
    """The messages between the page and its kernels."""
    return Traffic()


@pytest.fixture
def page(
    browser: Browser,
    request: pytest.FixtureRequest,
    errors: list[str],
    elsewhere: list[str],
    traffic: Traffic,
) -> Iterator[Page]:
    """An empty page of a new browser profile, as large as the test's ``viewport`` marker says.

    Where $SHOTS names a folder, a picture of how the test left the page is kept there.
    """
    marker = request.node.get_closest_marker("viewport")
    width, height = marker.args if marker else VIEWPORT
    context = browser.new_context(viewport=ViewportSize(width=width, height=height))
    page = context.new_page()

    def on_error(error: Error) -> None:
        if not NOTEBOOK_7_NOISE.search(error.message):
            errors.append(f"{error.message}\n{error.stack}")

    def on_console(message: ConsoleMessage) -> None:
        place = message.location["url"]
        noise = NOTEBOOK_7_NOISE.search(message.text) or not _is_here(place)
        if message.type == "error" and not noise:
            errors.append(f"{message.text} ({place})")

    def on_request(asked: Request) -> None:
        if not _is_here(asked.url):
            elsewhere.append(asked.url)

    page.on("pageerror", on_error)
    page.on("console", on_console)
    page.on("request", on_request)
    traffic.watch(page)
    yield page
    if folder := os.environ.get("SHOTS"):
        name = re.sub(r"[^\w.-]+", "-", request.node.name).strip("-")
        page.screenshot(path=Path(folder) / f"{name}.png")
    leave(page)
    context.close()


def _is_here(url: str) -> bool:
    """Whether a URL asks no other host."""
    parts = urlsplit(url)
    return parts.scheme not in ("http", "https") or parts.hostname in ("127.0.0.1", "localhost")


@pytest.fixture
def lab(jupyter_server: Server, page: Page, ipykernel: str, settings: Path) -> Lab:
    """JupyterLab, with kernels on the wanted ipykernel."""
    return Lab(jupyter_server, page, kernelspec(ipykernel), settings)


@pytest.fixture
def bare_lab(bare_server: Server, page: Page, ipykernel: str, settings: Path) -> Lab:
    """JupyterLab on a server that has not its half of the package."""
    return Lab(bare_server, page, kernelspec(ipykernel), settings)


@pytest.fixture
def notebook7(jupyter_server: Server, page: Page, ipykernel: str, settings: Path) -> Notebook7:
    """Notebook 7, with kernels on the wanted ipykernel."""
    return Notebook7(jupyter_server, page, kernelspec(ipykernel), settings)


@pytest.fixture
def voila(voila_server: Server, page: Page, ipykernel: str) -> Voila:
    """Voila, with kernels on the wanted ipykernel."""
    return Voila(voila_server, page, kernelspec(ipykernel))


@pytest.fixture(params=["lab", "notebook7", "voila"])
def application(request: pytest.FixtureRequest, ipykernel: str) -> Jupyter | Voila:
    """Each of the applications in turn."""
    application: Jupyter | Voila = request.getfixturevalue(request.param)
    return application
