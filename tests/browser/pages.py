"""Notebooks opened in the applications that people use, ready for a test to drive.

``Lab``, ``Notebook7`` and ``Voila`` open them. What ``open`` returns has the same interface as far
as the applications agree; its ``page`` is Playwright's.

JupyterLab is loaded once, and each test has a new notebook in it. A kernel goes on from test to
test, in Lab and in Notebook 7: after a test it is as one that has just started, but for the
libraries that it has imported. Of a test that failed, nothing goes on.
"""

from __future__ import annotations

import itertools
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode
from uuid import uuid4

import nbformat
from playwright.sync_api import BrowserContext, Error, Locator, Page

from .servers import Server

# Bounds what a page is asked to do; Playwright's own waits have bounds of their own.
SECONDS = 60

Theme = Literal["light", "dark"]

_LAB_THEMES: dict[Theme, str] = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}

_LOADED = """async () => {
    while (!window.jupyterapp) await new Promise(resolve => setTimeout(resolve, 20));
    await window.jupyterapp.restored;
}"""

_OPEN = """async ([path, theme]) => {
    const { commands, shell } = window.jupyterapp;
    if (document.body.dataset.jpThemeName !== theme)
        await commands.execute('apputils:change-theme', { theme });
    const opened = await commands.execute('docmanager:open', { path, factory: 'Notebook' });
    for (const each of [...shell.widgets('main')]) if (each !== opened) each.dispose();
    shell.activateById(opened.id);
    shell.collapseLeft();
}"""

# The manager of widgets looks for its kernel by itself, and where the kernel's last notebook has
# just been closed it may find none: then no widget of this page is ever drawn.
_READY = """async ([path, idle]) => {
    const until = async condition => {
        while (!condition()) await new Promise(resolve => setTimeout(resolve, 20));
    };
    const app = window.jupyterapp;
    await until(() => app.shell.currentWidget?.context?.path === path);
    const { context, sessionContext } = app.shell.currentWidget;
    await context.ready;
    if (!idle) return;
    await sessionContext.ready;
    await until(() => sessionContext.session?.kernel?.status === 'idle');
    await until(() => 'jupyter.widget' in sessionContext.session.kernel._targetRegistry);
}"""

_SELECT = """index => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.deselectAll();
    notebook.activeCellIndex = index;
}"""

_COMMAND = """async ([name, options, wait]) => {
    const done = window.jupyterapp.commands.execute(name, options);
    if (wait) await done;
}"""

_RESTART = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"

# Makes a kernel as good as new: no workflow, run, model, widget or name is left.
_FORGET = """
import sys

def forget(shell):
    package = "modelcompose_jupyter"
    if package in shell.extension_manager.loaded:
        shell.extension_manager.unload_extension(package)
    selection = sys.modules.get(f"{package}.host_selection")
    if selection is not None:
        selection.stop_serving()
        selection.disconnect()
        for host in selection.in_use():
            host.close()
    if "ipywidgets" in sys.modules:
        sys.modules["ipywidgets"].Widget.close_all()
    shell.reset(new_session=True)

forget(get_ipython())
"""

# A kernel that cannot forget is ended, and so are those that serve files of the test.
_RESET = """async ([path, code]) => {
    const { serviceManager: { sessions }, shell } = window.jupyterapp;
    const forgets = async model => {
        const session = sessions.connectTo({ model });
        const late = new Promise(resolve => setTimeout(resolve, 20_000));
        const asked = session.kernel.requestExecute({ code, silent: true, store_history: false });
        const reply = await Promise.race([asked.done, late]);
        session.dispose();
        if (reply?.content.status === 'error') throw new Error(reply.content.traceback.join('\\n'));
        return reply?.content.status === 'ok';
    };
    const opened = [...shell.widgets('main')].filter(each => each.context);
    await sessions.refreshRunning();
    for (const model of [...sessions.running()])
        if (model.path !== path || !await forgets(model)) await sessions.shutdown(model.id);
    for (const each of opened) each.dispose();
}"""

# The application asks for these settings first, and goes by them when it has them.
_COMPLETES = """async () => {
    const { restored, serviceManager: { settings } } = window.jupyterapp;
    await restored;
    for (let times = 0; times < 2; times++)
        await settings.fetch('@jupyterlab/completer-extension:manager');
}"""

_SHUT_DOWN = "() => window.jupyterapp?.serviceManager.sessions.shutdownAll()"

# Voila runs all cells, shows the page, and hands outputs to what draws them, one after the other.
_SHOWN = """() =>
    !document.querySelector('#loading, script[type="application/vnd.voila.cell-output+json"]')
    && ![...document.querySelectorAll('.jp-OutputArea-output')].some(
        output => output.textContent === 'Loading widget...')
"""


def evaluate(page: Page, function: str, argument: Any = None) -> Any:
    """Call a JavaScript function in the page and wait for what it promises, up to a bound."""
    late = f"reject(new Error('the page did not do it within {SECONDS} s'))"
    bound = f"new Promise((_, reject) => setTimeout(() => {late}, {SECONDS * 1000}))"
    return page.evaluate(f"argument => Promise.race([({function})(argument), {bound}])", argument)


def leave(page: Page) -> None:
    """Leave for an empty page and have the kernels ended: Voila does so when a page is left."""
    evaluate(page, _SHUT_DOWN)
    page.goto("about:blank")


class NotebookPage:
    """A notebook in JupyterLab or Notebook 7, its kernel idle. Cells count from 0.

    ``file`` is where it is kept.
    """

    def __init__(self, page: Page, file: Path, served: str, url: Callable[[], str]) -> None:
        self.page = page
        self.file = file
        self._served = served
        self._url = url

    def cell(self, index: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def output(self, index: int) -> Locator:
        """The outputs of a cell, without its source."""
        return self.cell(index).locator(".jp-OutputArea-output")

    def run(self, index: int, *, wait: bool = True) -> None:
        """Run a cell; waiting, return when the kernel has replied (widgets may still be drawn)."""
        evaluate(self.page, _SELECT, index)
        self.command("notebook:run-cell", wait=wait)

    def run_all(self, *, wait: bool = True) -> None:
        """Run the cells in order, up to the first that fails."""
        self.command("notebook:run-all-cells", wait=wait)

    def reload(self, *, idle: bool = True) -> None:
        """Load the page anew; its kernel stays, or a new one starts if there is none.

        Its kernel is ``idle`` then, unless a cell may still run.
        """
        self.page.goto(self._url())
        evaluate(self.page, _LOADED)
        evaluate(self.page, _READY, [self._served, idle])

    def wait_for_completion(self) -> None:
        """Wait until extensions have a say in completion: a page has them a while later."""
        evaluate(self.page, _COMPLETES)

    def restart(self) -> None:
        """Restart the kernel, which forgets everything."""
        evaluate(self.page, _RESTART)

    def shut_down(self) -> None:
        """End the kernel."""
        evaluate(self.page, _SHUT_DOWN)

    def interrupt(self) -> None:
        """Interrupt the kernel; returns when the server has done so."""
        self.command("notebook:interrupt-kernel")

    def idle(self) -> None:
        """Wait until the kernel is idle: what is asked of it before that, a cell's error drops."""
        evaluate(self.page, _READY, [self._served, True])

    def command(
        self, name: str, options: Mapping[str, Any] | None = None, *, wait: bool = True
    ) -> None:
        """Execute one of the application's own commands, as its menus and keys do."""
        evaluate(self.page, _COMMAND, [name, options or {}, wait])


class VoilaPage:
    """A notebook as Voila shows it, all its cells having run. Cells count from 0."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def output(self, index: int) -> Locator:
        """The outputs of a cell, in templates that extend Voila's ``lab``."""
        return self.page.locator(f'[cell-index="{index + 1}"] .jp-OutputArea-output')

    def run_all(self) -> None:
        """Nothing to do: Voila has run them."""


class SharedPage:
    """A page that tests have one after the other: new where the one before it was lost."""

    def __init__(self, context: BrowserContext, watch: Callable[[Page], None]) -> None:
        self._context = context
        self._watch = watch
        self._page: Page | None = None

    def get(self) -> Page:
        if self._page is None or self._page.is_closed():
            self._page = self._context.new_page()
            self._watch(self._page)
        return self._page

    def discard(self) -> None:
        """Have the next test begin with a new page, and with new kernels."""
        if self._page is not None:
            with suppress(Error):  # it may be what is broken
                evaluate(self._page, _SHUT_DOWN)
        for each in self._context.pages:
            each.close()
        self._page = None


def write_notebook(path: Path, cells: Sequence[str | Path], kernelspec: str) -> None:
    """Write the cells, or a copy of a notebook, to a file."""
    v4 = nbformat.v4
    if isinstance(cells[0], Path):
        notebook = nbformat.read(cells[0], as_version=4)  # type: ignore[no-untyped-call]
    else:
        notebook = v4.new_notebook(cells=[*map(v4.new_code_cell, cells)])  # type: ignore[no-untyped-call]
    names = {"name": kernelspec, "display_name": kernelspec}
    notebook.metadata["kernelspec"] = {**names, "language": "python"}
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


class Jupyter(ABC):
    """What JupyterLab and Notebook 7 have in common, which is nearly all.

    ``folder`` is for a test's own files, below the server's ``root``. The notebook is one file for
    all tests, so that the kernel of the last one is still its kernel.
    """

    def __init__(self, server: Server, page: Page, kernelspec: str) -> None:
        self.root = server.folder
        self.folder = Path(tempfile.mkdtemp(dir=server.folder))
        self._server = server
        self._page = page
        self._kernelspec = kernelspec
        self._path = f"{kernelspec}/notebook.ipynb"

    def open(self, *cells: str, theme: Theme = "light") -> NotebookPage:
        """Open a notebook of these cells."""
        self._server.check()
        file = self.root / self._path
        write_notebook(file, cells, self._kernelspec)
        self._page.bring_to_front()
        try:
            self._open(_LAB_THEMES[theme])
            evaluate(self._page, _READY, [self._path, True])
        except Error:  # JupyterLab did not get over how the last notebook was closed
            self._page.goto("about:blank")
            self._open(_LAB_THEMES[theme])
            evaluate(self._page, _READY, [self._path, True])
        return NotebookPage(self._page, file, self._path, self._url)

    @abstractmethod
    def _open(self, theme: str) -> None:
        """Show the notebook's file."""

    @abstractmethod
    def _url(self) -> str:
        """Where a page begins with the notebook."""

    def close(self) -> None:
        """Close what is open, and have the kernel forget the test."""
        self._page.context.clear_permissions()
        evaluate(self._page, _RESET, [self._path, _FORGET])


class Lab(Jupyter):
    """JupyterLab."""

    def _open(self, theme: str) -> None:
        if self._page.url == "about:blank":
            self._page.goto(f"{self._server.url}/lab/workspaces/{uuid4().hex}")
            evaluate(self._page, _LOADED)
        evaluate(self._page, _OPEN, [self._path, theme])

    def _url(self) -> str:
        # In a workspace that was there before, Lab would open again what was open then.
        return f"{self._server.url}/lab/workspaces/{uuid4().hex}/tree/{self._path}"


class Notebook7(Jupyter):
    """Notebook 7, whose pages have one notebook each."""

    def _open(self, theme: str) -> None:
        assert theme == _LAB_THEMES["light"], "no test needs another so far"
        self._page.goto(self._url())
        evaluate(self._page, _LOADED)

    def _url(self) -> str:
        return f"{self._server.url}/notebooks/{self._path}"


class Voila:
    """Voila, serving ``folder``, in which the notebooks are written."""

    def __init__(self, server: Server, page: Page, kernelspec: str) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=server.folder))
        self._server = server
        self._page = page
        self._kernelspec = kernelspec
        self._numbers = itertools.count()

    def open(self, *cells: str | Path, theme: Theme = "light", template: str = "lab") -> VoilaPage:
        """Open a notebook of these cells, or a copy of this existing one, with a new kernel."""
        self._server.check()
        file = self.folder / f"notebook-{next(self._numbers)}.ipynb"
        write_notebook(file, cells, self._kernelspec)
        options = urlencode({"theme": theme, "template": template})
        path = file.relative_to(self._server.folder).as_posix()
        url = f"{self._server.url}/voila/render/{path}?{options}"
        with self._page.expect_websocket():  # its kernel's
            self._page.goto(url)
        self._page.wait_for_function(_SHOWN)
        return VoilaPage(self._page)
