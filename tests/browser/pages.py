"""Notebooks opened in the applications that people use, ready for a test to drive.

``Lab``, ``Notebook7`` and ``Voila`` open them. What ``open`` returns has the same interface as far
as the applications agree; its ``page`` is Playwright's.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode
from uuid import uuid4

import nbformat
from playwright.sync_api import Locator, Page, expect

from .servers import Server

# Bounds what a page is asked to do; Playwright's own waits have bounds of their own.
SECONDS = 60

Theme = Literal["light", "dark"]

_LAB_THEMES: dict[Theme, str] = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}

_READY = """async path => {
    const until = async condition => {
        while (!condition()) await new Promise(resolve => setTimeout(resolve, 20));
    };
    await until(() => window.jupyterapp);
    const app = window.jupyterapp;
    await app.restored;
    await until(() => app.shell.currentWidget?.context?.path === path);
    const { context, sessionContext } = app.shell.currentWidget;
    await context.ready;
    await sessionContext.ready;
    await until(() => sessionContext.session?.kernel?.status === 'idle');
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

    def __init__(self, page: Page, file: Path, served: str) -> None:
        self.page = page
        self.file = file
        self._served = served

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

    def reload(self) -> None:
        """Load the page anew; its kernel stays, or a new one starts if there is none."""
        self.page.reload()
        evaluate(self.page, _READY, self._served)

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
        evaluate(self.page, _READY, self._served)

    def theme(self, name: str) -> None:
        """Change to a theme of the application's, such as ``JupyterLab Dark``."""
        self.command("apputils:change-theme", {"theme": name})
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-name", name)

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


class _Application:
    """Writes notebooks into ``folder``, below its server's ``root``, and opens them in the page."""

    def __init__(self, server: Server, page: Page, kernelspec: str) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=server.folder))
        self.root = server.folder
        self._server = server
        self._page = page
        self._kernelspec = kernelspec
        self._numbers = itertools.count()

    def _write(self, cells: Sequence[str | Path]) -> str:
        """Write the cells, or a copy of a notebook, to a new file; return its path for the URL."""
        self._server.check()
        v4 = nbformat.v4
        if isinstance(cells[0], Path):
            notebook = nbformat.read(cells[0], as_version=4)  # type: ignore[no-untyped-call]
        else:
            notebook = v4.new_notebook(cells=[*map(v4.new_code_cell, cells)])  # type: ignore[no-untyped-call]
        notebook.metadata["kernelspec"] = {
            "name": self._kernelspec,
            "display_name": self._kernelspec,
            "language": "python",
        }
        path = self.folder / f"notebook-{next(self._numbers)}.ipynb"
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
        return path.relative_to(self._server.folder).as_posix()


class Jupyter(_Application, ABC):
    """What JupyterLab and Notebook 7 have in common, which is nearly all."""

    def __init__(self, server: Server, page: Page, kernelspec: str, settings: Path) -> None:
        super().__init__(server, page, kernelspec)
        self._settings = settings

    def open(
        self,
        *cells: str | Path,
        theme: Theme = "light",
        own: Mapping[str, Any] | None = None,
    ) -> NotebookPage:
        """Open a notebook of these cells, or a copy of this existing one, with a new kernel.

        ``own`` is what the user has set of the package's settings.
        """
        self._write_settings({"themes": {"theme": _LAB_THEMES[theme]}})
        if own is not None:
            folder = self._settings / "modelcompose-jupyter"
            folder.mkdir()
            (folder / "plugin.jupyterlab-settings").write_text(json.dumps(own))
        path = self._write(cells)
        self._page.goto(f"{self._server.url}/{self._address(path)}")
        evaluate(self._page, _READY, path)
        return NotebookPage(self._page, self._server.folder / path, path)

    @abstractmethod
    def _address(self, notebook: str) -> str:
        """The part of the URL after the host."""

    def _write_settings(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Start from the applications' defaults: they keep what the page before has changed."""
        quiet = {"notification": {"fetchNews": "false", "checkForUpdates": False}}
        shutil.rmtree(self._settings, ignore_errors=True)
        folder = self._settings / "@jupyterlab" / "apputils-extension"
        folder.mkdir(parents=True)
        for plugin, values in {**quiet, **settings}.items():
            (folder / f"{plugin}.jupyterlab-settings").write_text(json.dumps(values))


class Lab(Jupyter):
    """JupyterLab."""

    def _address(self, notebook: str) -> str:
        # In a workspace that was there before, Lab would open again what was open then.
        return f"lab/workspaces/{uuid4().hex}/tree/{notebook}"


class Notebook7(Jupyter):
    """Notebook 7."""

    def _address(self, notebook: str) -> str:
        return f"notebooks/{notebook}"


class Voila(_Application):
    """Voila, serving a folder of notebooks."""

    def open(self, *cells: str | Path, theme: Theme = "light", template: str = "lab") -> VoilaPage:
        """Open a notebook of these cells, or a copy of this existing one, with a new kernel."""
        options = urlencode({"theme": theme, "template": template})
        url = f"{self._server.url}/voila/render/{self._write(cells)}?{options}"
        with self._page.expect_websocket(timeout=SECONDS * 1000):  # its kernel's
            self._page.goto(url, timeout=SECONDS * 1000)
        self._page.wait_for_function(_SHOWN)
        return VoilaPage(self._page)
