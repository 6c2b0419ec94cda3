"""The page of a document as its visitors see it, and notebooks in the package's template."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from dashboard.serving import dashboard, kernels
from playwright.sync_api import Browser, Page, expect

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.server.catalog import Catalog
from modelcompose_jupyter.server.server import Server as HostServer
from modelcompose_jupyter.server.server import ServerSettings
from modelcompose_jupyter.workflow import State

from .pages import SECONDS, Voila, leave
from .servers import Server, free_port, serve
from .test_chat import CHAT, Chat
from .test_panel import CUT, Panel

ONE = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text @(description How the story begins)}
  max_output_length: ${input.length as slider/5,400,5 | 10}
  temperature: ${input.temperature as number | 0.7}
workflow:
  title: Tell a story
  description: A short story goes on from your first words.
"""
SEVERAL = """\
name: A desk for writers
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: ${input.length as integer | 5}
workflows:
  - id: story
    title: Tell a story
    default: true
    job: {}
  - id: letter
    title: Write a letter
    job: {}
  - id: novel
    title: Write a novel
    job: {repeat_count: 2000}
  - id: secret
    title: A secret
    private: true
    job: {}
"""
# Runs for many times as long as any test.
LONG = ONE.replace("workflow:\n", "workflow:\n  repeat_count: 2000\n").replace("| 10}", "| 400}")
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
KEEP_SOCKETS = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
    constructor(...options) {
        super(...options);
        sockets.push(this);
    }
};
"""
# Keeps events from a page.
WITHOUT = """
const listen = window.addEventListener;
window.addEventListener = (type, ...rest) => %s.includes(type) || listen(type, ...rest);
"""
LIKE_A_PHONE = WITHOUT % '["beforeunload"]'
SAYS_NOTHING = WITHOUT % '["beforeunload", "pagehide"]'  # as a browser that is killed


@pytest.fixture(scope="module")
def host(browser: object) -> Iterator[LocalHost]:
    """Where the runs of visitors are done, so that only one process has to load a model."""
    host = LocalHost()
    yield host
    host.close()


@contextmanager
def hosted(host: LocalHost, folder: Path, document: str, *options: str) -> Iterator[Server]:
    """The page of a document, which has runs done by a host."""
    catalog = Catalog.of(load_document(document))
    server = HostServer(host, lambda: catalog, settings=ServerSettings(port=0)).start()
    try:
        assert server.server_info is not None
        named = str(server.server_info.path)
        with dashboard(folder, document, *options, MODELCOMPOSE_HOST=named) as page:
            yield page
    finally:
        server.close()


@pytest.fixture(scope="module")
def one(host: LocalHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with hosted(host, tmp_path_factory.mktemp("one"), ONE) as server:
        yield server


@pytest.fixture(scope="module")
def several(host: LocalHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with hosted(host, tmp_path_factory.mktemp("several"), SEVERAL) as server:
        yield server


def visit(page: Page, url: str) -> Panel:
    """Open a page and wait until it can be used; its panel, or that of the open tab."""
    page.goto(url)
    panel = Panel(page.locator(".modelcompose-panel:visible"))
    expect(page.locator("#mc-loading")).to_have_count(0)
    return panel


@contextmanager
def new_kernel(server: Server) -> Iterator[list[psutil.Process]]:
    """The one kernel that the server starts meanwhile: those of earlier visitors may still end."""
    before = {*kernels(server)}
    started: list[psutil.Process] = []
    yield started
    started += {*kernels(server)} - before
    assert len(started) == 1


def ends(kernel: psutil.Process) -> bool:
    return not psutil.wait_procs([kernel], timeout=SECONDS)[1]


def ground(page: Page) -> int:
    """How bright the page is, from 0 to 765."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


@pytest.mark.smoke
def test_a_page_speaks_its_visitor_s_language(browser: Browser, one: Server) -> None:
    context = browser.new_context(locale="ko-KR")
    page = context.new_page()
    page.set_default_timeout(SECONDS * 1000)
    page.goto(f"{one.url}?length=900")
    expect(page.locator("html")).to_have_attribute("lang", "ko-KR")
    expect(page.get_by_role("note")).to_contain_text("이 페이지의 주소에 문제가 있습니다")
    panel = page.locator(".modelcompose-panel")
    panel.get_by_role("textbox", name="프롬프트 *").fill("Once upon a time")
    expect(panel.get_by_role("textbox", name="온도(temperature)")).to_be_visible()
    panel.get_by_role("button", name="워크플로 실행").click()
    expect(panel.locator(".modelcompose-status")).to_have_text(re.compile("^토큰 10개에서 잘림 · "))
    expect(panel.get_by_role("button", name="텍스트 복사")).to_be_visible()
    expect(page.get_by_text("HTTP로 호출하기")).to_be_visible()
    leave(page)
    context.close()


@pytest.mark.smoke
def test_a_visitor_enters_a_prompt_and_gets_its_text(
    one: Server, page: Page, errors: list[str], elsewhere: list[str]
) -> None:
    panel = visit(page, one.url)
    expect(page).to_have_title("Tell a story")
    expect(page.get_by_role("heading", level=1)).to_have_text("Tell a story")
    expect(page.get_by_role("heading", level=3)).to_be_hidden()  # the same once more
    expect(page.get_by_text("A short story goes on")).to_be_visible()
    panel.start("Once upon a time")
    panel.is_in("completed")
    expect(panel.status).to_have_text(re.compile(CUT.format(10)))
    expect(page.locator(".mc-lost")).to_be_hidden()
    assert not errors
    assert not elsewhere


def test_what_is_still_to_be_filled_in_is_said_and_marked(one: Server, page: Page) -> None:
    panel = visit(page, one.url)
    border = "e => getComputedStyle(e).borderColor"
    plain = panel.prompt.evaluate(border)
    panel.run.click()
    expect(panel.error).to_have_text("Fill this in.")
    expect(panel.prompt).to_be_focused()
    panel.run.focus()
    assert panel.prompt.evaluate(border) != plain
    panel.start("Once")
    panel.is_in("completed")
    expect(panel.error).to_be_hidden()
    panel.run.focus()
    assert panel.prompt.evaluate(border) == plain


def test_what_is_to_be_known_is_folded_away(one: Server, page: Page) -> None:
    panel = visit(page, one.url)
    command = page.get_by_text("curl -X POST")
    expect(command).to_be_hidden()
    page.get_by_text("Call it over HTTP").click()
    panel.prompt.fill("A dragon")
    panel.prompt.blur()
    expect(command).to_have_text(re.compile(r'"prompt": "A dragon"'))
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    page.get_by_text("How it works").click()
    expect(page.locator(".modelcompose-diagram svg")).to_be_visible()
    # A page's own style does not reach into the picture.
    edge = page.locator(".modelcompose-diagram [data-edge]").first
    expect(edge).to_have_css("stroke-width", "1.5px")


def test_an_address_fills_in_the_inputs_and_wrong_values_are_a_note(
    one: Server, page: Page, errors: list[str]
) -> None:
    panel = visit(page, f"{one.url}/?prompt=A%20dragon&length=5&temperature=hot&tone=sad")
    expect(panel.prompt).to_have_value("A dragon")
    note = page.get_by_role("note")
    expect(note).to_contain_text("input 'temperature': \"hot\" is not a number")
    expect(note).to_contain_text("there is no input 'tone'")
    panel.run.click()
    expect(panel.status).to_have_text(re.compile(CUT.format(5)))
    assert not errors


@pytest.mark.smoke
def test_several_workflows_are_tabs(several: Server, page: Page, errors: list[str]) -> None:
    visit(page, several.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("A desk for writers")
    expect(page.get_by_role("tab")).to_have_text(
        ["Tell a story", "Write a letter", "Write a novel"]
    )
    page.get_by_role("tab", name="Write a letter").click()
    panel = Panel(page.locator(".modelcompose-panel:visible"))
    panel.start("Dear friend")
    panel.is_in("completed")
    assert not errors


@pytest.mark.smoke
def test_an_address_opens_a_workflow_which_its_visitor_stops(several: Server, page: Page) -> None:
    panel = visit(page, f"{several.url}/?workflow=novel&prompt=Dear%20friend&length=400")
    expect(page.get_by_role("tab", selected=True)).to_have_text("Write a novel")
    expect(panel.prompt).to_have_value("Dear friend")
    panel.run.click()
    panel.grows()
    panel.stop.click()
    panel.is_in("cancelled")
    expect(panel.texts.first).to_have_text(re.compile("^Dear friend"))


@pytest.mark.viewport(400, 800)
@pytest.mark.parametrize("address", [pytest.param("one", marks=pytest.mark.smoke), "several"])
def test_a_phone_shows_all_of_it(address: str, request: pytest.FixtureRequest, page: Page) -> None:
    server = request.getfixturevalue(address)
    panel = visit(page, f"{server.url}/?tone=sad")
    for each in page.locator("summary:visible").all():
        each.click()
    panel.start("Once upon a time")
    panel.is_in("completed")
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    box = panel.run.bounding_box()
    assert box is not None and box["height"] >= 28


def test_the_page_is_dark_where_the_system_is_and_follows_it(one: Server, page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    visit(page, one.url)
    assert ground(page) < 150
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false")
    page.emulate_media(color_scheme="light")
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "true")
    assert ground(page) > 650


@pytest.mark.parametrize(("system", "asked"), [("light", "dark"), ("dark", "light")])
def test_an_address_can_ask_for_dark_and_for_light(
    one: Server, page: Page, system: str, asked: str
) -> None:
    page.emulate_media(color_scheme="dark" if system == "dark" else "light")
    visit(page, f"{one.url}/?theme={asked}")
    assert (ground(page) < 150) == (asked == "dark")
    light = "false" if asked == "dark" else "true"
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", light)


@pytest.mark.parametrize(("system", "asked"), [("light", "dark"), ("dark", "light")])
def test_whoever_serves_the_page_can_ask_for_dark_and_for_light(
    tmp_path: Path, page: Page, system: str, asked: str
) -> None:
    page.emulate_media(color_scheme="dark" if system == "dark" else "light")
    with dashboard(tmp_path, ONE, f"--theme={asked}") as server:
        visit(page, server.url)
        assert (ground(page) < 150) == (asked == "dark")
        leave(page)


def test_a_page_keeps_its_conversations_over_a_reload(
    tmp_path: Path, page: Page, host: LocalHost, errors: list[str]
) -> None:
    with hosted(host, tmp_path, CHAT.partition("\n")[2]) as server:
        page.goto(server.url)
        chat = Chat(page.locator(".modelcompose-panel:visible"))
        chat.say("Tell me a story about a fox.")
        chat.replied()
        reply = chat.turn(1, "assistant").inner_text()
        chat.anew.click()
        expect(chat.turns).to_have_count(0)
        chat.say("Tell me a story about an owl.")
        expect(chat.turns).to_have_count(2)
        chat.replied()
        page.reload()
        chat = Chat(page.locator(".modelcompose-panel:visible"))
        expect(chat.turns).to_have_count(2)
        expect(chat.turn(0, "user")).to_contain_text("owl")
        chat.conversations.select_option(label="Tell me a story about a fox.")
        expect(chat.turn(1, "assistant")).to_contain_text(reply.split("\n", 2)[1])
        chat.say("Tell me more.")
        expect(chat.turns).to_have_count(4)
        chat.replied()
        leave(page)
    assert not errors


def test_the_kernel_ends_when_its_visitor_leaves(one: Server, page: Page) -> None:
    with new_kernel(one) as started:
        visit(page, one.url)
    leave(page)
    assert ends(*started)
    assert "XSRF" not in one.log.read_text()


def test_the_run_of_who_is_cut_off_is_stopped_and_of_who_is_back_goes_on(
    tmp_path: Path, browser: Browser, page: Page, host: LocalHost
) -> None:
    page.add_init_script(KEEP_SOCKETS)
    with hosted(host, tmp_path, LONG, "--VisitorKernels.lost_seconds=3") as server:
        panel = visit(page, server.url)
        panel.start("A dragon")
        context = browser.new_context()
        context.add_init_script(SAYS_NOTHING)
        visit(context.new_page(), server.url).start("An owl")
        stopped, kept = host.runs()[:2]
        with page.expect_websocket():  # a new one
            page.evaluate("sockets.forEach(each => each.close())")
        context.close()  # later
        assert stopped.wait(SECONDS)
        assert stopped.state is State.CANCELLED
        assert len(kernels(server)) == 2
        panel.grows()
        assert not kept.done
        panel.stop.click()
        panel.is_in("cancelled")
        leave(page)


def test_a_visitor_who_leaves_without_a_word_before_is_heard(one: Server, page: Page) -> None:
    page.add_init_script(LIKE_A_PHONE)
    with new_kernel(one) as started:
        visit(page, one.url)
    page.goto("about:blank")
    assert ends(*started)


def test_visitors_have_kernels_of_their_own(one: Server, page: Page) -> None:
    with new_kernel(one) as of_first:
        first = visit(page, f"{one.url}/?prompt=A%20dragon")
    other = page.context.new_page()
    with new_kernel(one) as of_second:
        second = visit(other, f"{one.url}/?prompt=An%20owl")
    expect(first.prompt).to_have_value("A dragon")
    expect(second.prompt).to_have_value("An owl")
    leave(other)
    assert ends(*of_second)
    first.run.click()
    first.is_in("completed")
    assert of_first[0].is_running()


def test_a_page_runs_its_workflow_by_itself_where_no_host_is_named(
    tmp_path: Path, page: Page
) -> None:
    with dashboard(tmp_path, ONE) as server:
        panel = visit(page, server.url)
        panel.start("Once upon a time")
        panel.is_in("completed")
        leave(page)


def test_a_page_says_that_its_kernel_is_gone(tmp_path: Path, page: Page, host: LocalHost) -> None:
    with hosted(host, tmp_path, ONE) as server:
        visit(page, server.url)
        lost = page.locator(".mc-lost").filter(has_text="This page has lost its connection.")
        expect(lost).to_be_hidden()
        kernels(server)[0].kill()
        expect(lost).to_be_visible()
        lost.get_by_role("link").click()
        panel = Panel(page.locator(".modelcompose-panel:visible"))
        expect(lost).to_be_hidden()
        panel.start("Once")
        server.process.kill()
        expect(lost).to_be_visible()


def test_a_wrong_document_is_told_on_the_page(one: Server, page: Page, errors: list[str]) -> None:
    document = one.folder / "story.yml"
    document.write_text(ONE.replace("temperature:", "temprature:"))
    try:
        page.goto(one.url)
        told = page.get_by_role("alert").filter(has_text="temprature")
        expect(told).to_contain_text("story.yml:7:3")
        expect(told).to_contain_text("Did you mean 'temperature'?")
        assert str(one.folder) not in page.content()
    finally:
        document.write_text(ONE)
    assert not errors


@pytest.mark.parametrize("name", ["sliders", "templates"])
def test_example_notebooks_are_pages_in_the_template(
    voila: Voila, name: str, errors: list[str], elsewhere: list[str]
) -> None:
    notebook = NOTEBOOKS / f"{name}.ipynb"
    folder = voila.folder
    (folder / f"{name}.yml").write_bytes((NOTEBOOKS / f"{name}.yml").read_bytes())
    opened = voila.open(notebook, template="modelcompose")
    title = json.loads(notebook.read_text("utf-8"))["cells"][0]["source"][0].strip("# \n")
    expect(opened.page.get_by_role("heading", level=1)).to_contain_text(title)
    expect(opened.page.get_by_role("button", name="Run Workflow").first).to_be_visible()
    expect(opened.page.get_by_text("%%compose")).to_have_count(0)
    assert not errors
    assert not elsewhere


def test_plain_voila_ends_the_kernel_of_a_page_in_the_template_that_is_left(
    tmp_path: Path, page: Page, jupyter_environment: dict[str, str]
) -> None:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for suffix in ("ipynb", "yml"):
        shutil.copy(NOTEBOOKS / f"sliders.{suffix}", folder)
    port = free_port()
    command = [
        *(sys.executable, "-m", "voila", "sliders.ipynb", "--no-browser", f"--port={port}"),
        *("--template=modelcompose", "--Voila.ip=127.0.0.1"),
    ]
    with serve(command, port, folder, jupyter_environment) as server:
        page.goto(server.url)
        expect(page.get_by_role("button", name="Run Workflow").first).to_be_visible()
        (kernel,) = kernels(server)
        page.goto("about:blank")
        assert ends(kernel)
