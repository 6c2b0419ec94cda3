"""A real browser, and the applications that it opens notebooks in.

Servers, browser and the page of JupyterLab live as long as the tests of this folder run, and
kernels of notebooks as long as no test fails; notebooks are new for each test, and so are the pages
of Voila. Without Chromium the tests are skipped, or fail where MODELCOMPOSE_BROWSER=required.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Error,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)
from standins.ipykernels import kernelspec

import modelcompose_jupyter

from .pages import SECONDS, Jupyter, Lab, Notebook7, SharedPage, Voila, leave
from .recorder import Recorder
from .servers import Server, free_port, serve
from .traffic import Traffic

VIEWPORT = (1100, 800)
FAILED = pytest.StashKey[bool]()

_Application = TypeVar("_Application", bound=Jupyter)

# Where Jupyter finds the package's own template and extension, also where it is not installed.
PACKAGE = Path(modelcompose_jupyter.__file__).parent
TEMPLATES = PACKAGE / "dashboard" / "share" / "jupyter"
LABEXTENSION = PACKAGE / "labextension"

# No page may depend on the network, and none does by accident.
LOOPBACK_ONLY = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"

expect.set_options(timeout=SECONDS * 1000)


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
def jupyter_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What Jupyter and IPython have in a user's home, all new."""
    home = tmp_path_factory.mktemp("home")
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
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
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
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


@pytest.fixture(scope="package")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def errors(recorder: Recorder) -> list[str]:
    """What went wrong in the page by itself: uncaught errors, and errors in its console."""
    return recorder.errors


@pytest.fixture
def elsewhere(recorder: Recorder) -> list[str]:
    """URLs that the page asked other hosts for (and did not get)."""
    return recorder.elsewhere


@pytest.fixture
def traffic(recorder: Recorder) -> Traffic:
    """The messages between the page and its kernels."""
    return recorder.traffic


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep of each test whether it has failed."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@contextmanager
def _in_hand(recorder: Recorder, page: Page, node: pytest.Item) -> Iterator[None]:
    """A page is a test's: as large as its ``viewport`` marker says, and recorded.

    Where $SHOTS names a folder, a picture of how the test left the page is kept there.
    """
    marker = node.get_closest_marker("viewport")
    width, height = marker.args if marker else VIEWPORT
    page.set_viewport_size(ViewportSize(width=width, height=height))
    recorder.begin(page)
    yield
    recorder.end()
    if (folder := os.environ.get("SHOTS")) and not page.is_closed():
        name = re.sub(r"[^\w.-]+", "-", node.name).strip("-")
        page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.fixture(scope="package")
def profile(browser: Browser) -> Iterator[BrowserContext]:
    """The browser's profile for pages of Voila, which keeps files of the last page, not cookies."""
    context = browser.new_context()
    context.set_default_timeout(SECONDS * 1000)
    yield context
    context.close()


@pytest.fixture
def page(
    profile: BrowserContext, request: pytest.FixtureRequest, recorder: Recorder
) -> Iterator[Page]:
    """An empty page."""
    page = profile.new_page()
    recorder.watch(page)
    with _in_hand(recorder, page, request.node):
        yield page
    leave(page)
    for each in profile.pages:
        each.close()
    profile.clear_cookies()
    profile.clear_permissions()


@contextmanager
def _shared_page(browser: Browser, recorder: Recorder) -> Iterator[SharedPage]:
    """A page of JupyterLab, in a profile of its own."""
    context = browser.new_context()
    context.set_default_timeout(SECONDS * 1000)
    shared = SharedPage(context, recorder.watch)
    yield shared
    shared.discard()
    context.close()


@pytest.fixture(scope="package")
def lab_page(browser: Browser, recorder: Recorder) -> Iterator[SharedPage]:
    with _shared_page(browser, recorder) as shared:
        yield shared


@pytest.fixture(scope="package")
def bare_lab_page(browser: Browser, recorder: Recorder) -> Iterator[SharedPage]:
    with _shared_page(browser, recorder) as shared:
        yield shared


@pytest.fixture(scope="package")
def notebook7_page(browser: Browser, recorder: Recorder) -> Iterator[SharedPage]:
    with _shared_page(browser, recorder) as shared:
        yield shared


@contextmanager
def _opener(
    kind: type[_Application],
    server: Server,
    shared: SharedPage,
    request: pytest.FixtureRequest,
    recorder: Recorder,
    ipykernel: str,
) -> Iterator[_Application]:
    """Opens notebooks for a test; of one that failed, nothing is left for the next."""
    page = shared.get()
    application = kind(server, page, kernelspec(ipykernel))
    with _in_hand(recorder, page, request.node):
        yield application
    if request.node.stash.get(FAILED, False):
        shared.discard()
        return
    try:
        application.close()
    except Error:
        shared.discard()
        raise


@pytest.fixture
def lab(
    jupyter_server: Server,
    lab_page: SharedPage,
    request: pytest.FixtureRequest,
    recorder: Recorder,
    ipykernel: str,
) -> Iterator[Lab]:
    """JupyterLab, with kernels on the wanted ipykernel."""
    with _opener(Lab, jupyter_server, lab_page, request, recorder, ipykernel) as lab:
        yield lab


@pytest.fixture
def bare_lab(
    bare_server: Server,
    bare_lab_page: SharedPage,
    request: pytest.FixtureRequest,
    recorder: Recorder,
    ipykernel: str,
) -> Iterator[Lab]:
    """JupyterLab on a server that has not its half of the package."""
    with _opener(Lab, bare_server, bare_lab_page, request, recorder, ipykernel) as lab:
        yield lab


@pytest.fixture
def notebook7(
    jupyter_server: Server,
    notebook7_page: SharedPage,
    request: pytest.FixtureRequest,
    recorder: Recorder,
    ipykernel: str,
) -> Iterator[Notebook7]:
    """Notebook 7, with kernels on the wanted ipykernel."""
    with _opener(
        Notebook7, jupyter_server, notebook7_page, request, recorder, ipykernel
    ) as notebook7:
        yield notebook7


@pytest.fixture
def voila(voila_server: Server, page: Page, ipykernel: str) -> Voila:
    """Voila, with kernels on the wanted ipykernel."""
    return Voila(voila_server, page, kernelspec(ipykernel))


@pytest.fixture(params=["lab", "notebook7", "voila"])
def application(request: pytest.FixtureRequest, ipykernel: str) -> Jupyter | Voila:
    """Each of the applications in turn."""
    application: Jupyter | Voila = request.getfixturevalue(request.param)
    return application
