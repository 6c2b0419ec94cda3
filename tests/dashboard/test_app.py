"""The server of the page: what it serves and what it does not, to whom, and when it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from browser.servers import Server
from tornado.websocket import WebSocketClientConnection, websocket_connect

from modelcompose_jupyter.dashboard import DOCUMENT_VARIABLE
from modelcompose_jupyter.dashboard.app import Dashboard, main
from modelcompose_jupyter.server.connections import ConnectionLimits

from .serving import COMMAND, dashboard, kernels

DOCUMENT = """\
component:
  type: model
  task: text-generation
  model: /srv/zq folder/model
  text: ${input.prompt as text}
workflow:
  title: Tell a story
"""
ROOT = Path(__file__).parents[2]
SECONDS = 60
EVIL = {"Host": "evil.example"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with dashboard(tmp_path_factory.mktemp("dashboard"), DOCUMENT) as server:
        yield server


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, timeout=SECONDS)


def kernel_of(page: httpx.Response) -> str:
    found = re.search(r'"kernelId": "([\w-]+)"', page.text)
    assert found, page.text
    return found[1]


def test_the_page_is_at_the_root_and_is_called_as_its_workflow(server: Server) -> None:
    page = get(f"{server.url}/?prompt=Once")
    assert page.status_code == 200
    assert "<title>Tell a story</title>" in page.text
    assert "<h1>Tell a story</h1>" in page.text
    assert "application/vnd.jupyter.widget-view+json" in page.text
    assert 'class="jp-Cell-inputWrapper"' not in page.text
    assert "https://" not in re.sub(r"<!--.*?-->|\* @see .*", "", page.text)
    assert "Tell a story" in page.text and "zq folder" not in page.text


def test_it_says_where_it_is_and_nothing_else(server: Server) -> None:
    assert server.log.read_text().splitlines()[0] == f"page: {server.url}/"


@pytest.mark.parametrize(
    "path",
    [
        "story.yml",
        "picture.png",
        "page.ipynb",
        "voila/files/story.yml",
        "voila/files/picture.png",
        "voila/files/page.ipynb",
        "voila/tree",
        "voila/render/page.ipynb",
        "voila/api/contents/",
        "api/contents",
        "api/kernels",
        "api/terminals",
        "tree",
        "files/story.yml",
        "voila/static/..%2f..%2f..%2fstory.yml",
    ],
)
def test_nothing_but_the_page_is_served(server: Server, path: str) -> None:
    assert get(f"{server.url}/{path}").status_code in (403, 404)


def test_kernels_are_of_this_interpreter_and_have_no_torch(server: Server) -> None:
    page = get(server.url)
    kernel = kernels(server)[-1]
    assert kernel.cmdline()[0] == sys.executable
    if sys.platform == "linux":
        assert not [each.path for each in kernel.memory_maps() if "torch" in each.path]
    assert kernel.environ()["MODELCOMPOSE_DOCUMENT"] == str(server.folder / "story.yml")
    assert kernel_of(page)


def test_names_of_other_hosts_are_refused(server: Server) -> None:
    kernel = kernel_of(get(server.url))
    for path in ("", f"api/kernels/{kernel}"):
        assert get(f"{server.url}/{path}", **EVIL).status_code == 403
    channels = f"{server.url}/api/kernels/{kernel}/channels"
    assert get(channels, **UPGRADE, **EVIL).status_code == 403
    assert get(channels, **UPGRADE, Origin="http://evil.example").status_code == 403
    assert get(f"{server.url}/api/kernels/{kernel}", Host="localhost").status_code == 200


def test_half_sent_requests_keep_no_visitor_out(server: Server) -> None:
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection(address, timeout=SECONDS))
            for _ in range(ConnectionLimits().max_connections + 20)
        ]
        for each in opened[:20] + opened[-20:]:
            with suppress(ConnectionError):  # closed already
                each.sendall(b"GET / HTTP/1.1\r\nHost: local")
        assert get(server.url, **EVIL).status_code == 403
        with suppress(ConnectionError):
            assert opened[0].recv(1000) == b""


def test_no_kernel_starts_for_what_nobody_opened(server: Server) -> None:
    before = len(kernels(server))
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    for destination in ("image", "iframe", "empty"):
        answer = get(server.url, **foreign, **{"Sec-Fetch-Dest": destination})
        assert answer.status_code == 403
    assert len(kernels(server)) == before
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert get(server.url, **link, **{"Sec-Fetch-Dest": "document"}).status_code == 200


def channels_of(server: Server, page: httpx.Response) -> str:
    """The URL of the WebSocket of a page."""
    url = server.url.replace("http", "ws", 1)
    return f"{url}/api/kernels/{kernel_of(page)}/channels"


def test_a_page_that_answers_keeps_its_connection_and_one_that_is_lost_no_kernel(
    tmp_path: Path,
) -> None:
    options = [f"--MappingKernelManager.cull_{name}" for name in ("idle_timeout=5", "interval=1")]
    with dashboard(tmp_path, DOCUMENT, "--Dashboard.ping_seconds=1", *options) as server:

        async def visit() -> WebSocketClientConnection:
            page = await asyncio.to_thread(get, server.url)
            return await websocket_connect(channels_of(server, page))

        async def pings_until_the_other_has_ended() -> int:
            page = await visit()
            (kept,) = kernels(server)
            pinged = asyncio.Semaphore(0)
            page.on_ping = lambda _: pinged.release()
            closed = asyncio.ensure_future(_closed(page))
            other = await visit()
            (lost,) = {*kernels(server)} - {kept}
            other.close()
            count = 0
            while lost.is_running() or count < 5:
                ping = asyncio.ensure_future(pinged.acquire())
                done, _ = await asyncio.wait(
                    [ping, closed], timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if ping not in done:
                    break
                count += 1
            assert kept.is_running()  # which has been idle for longer
            page.close()
            return count

        assert asyncio.run(pings_until_the_other_has_ended()) >= 5


def test_a_visitor_runs_no_code(server: Server, tmp_path: Path) -> None:
    """Of what a kernel can be asked, a page's passes on what widgets need, on any channel."""
    url = channels_of(server, get(server.url))
    mark = tmp_path / "ran"
    code = f"open({str(mark)!r}, 'w')"
    asked = [
        ("execute_request", {"code": code, "user_expressions": {"x": code}}),
        ("complete_request", {"code": "import os; os.", "cursor_pos": 14}),
        ("inspect_request", {"code": "page", "cursor_pos": 1}),
        ("history_request", {"hist_access_type": "tail", "n": 5}),
        ("debug_request", {"type": "request", "seq": 1, "command": "evaluate"}),
        ("modelcompose_request", {"question": "status", "data": {}}),
        ("interrupt_request", {}),
    ]

    async def replies() -> set[str]:
        page = await websocket_connect(url)
        last = [("kernel_info_request", {})]  # answered when all before it has been looked at
        for channel in ("control", "shell"):
            for kind, content in [*asked, *last]:
                header = {"msg_id": kind + channel, "msg_type": kind, "version": "5.3"}
                header |= {"username": "", "session": "visitor", "date": "2026-01-01T00:00:00Z"}
                message = {"header": header, "content": content, "channel": channel}
                await page.write_message(
                    json.dumps({**message, "parent_header": {}, "metadata": {}, "buffers": []})
                )
        heard: list[str] = []
        while heard.count("kernel_info_reply") < 2:
            written = await asyncio.wait_for(page.read_message(), SECONDS)
            assert written is not None
            message = json.loads(written)
            if message["parent_header"].get("session") == "visitor":
                heard.append(message["msg_type"])
        page.close()
        return set(heard)

    assert asyncio.run(replies()) <= {"kernel_info_reply", "status"}
    assert not mark.exists()


async def _closed(page: WebSocketClientConnection) -> None:
    """Wait for the end of a connection."""
    while await page.read_message() is not None:
        pass


def test_only_the_page_itself_can_end_its_kernel(server: Server) -> None:
    with httpx.Client(timeout=SECONDS) as client:
        kernel = kernel_of(client.get(server.url))
        url = f"{server.url}/voila/api/shutdown/{kernel}"
        assert client.post(url).status_code == 403
        assert client.post(url, data={"_xsrf": "guessed"}).status_code == 403
        cookie = client.cookies["_xsrf"]
        foreign = {"Origin": "http://evil.example"}
        assert client.post(url, data={"_xsrf": cookie}, headers=foreign).status_code in (403, 404)
        assert client.post(url, data={"_xsrf": cookie}).status_code == 204
        assert client.get(f"{server.url}/api/kernels/{kernel}").status_code == 404


def test_a_document_is_read_anew_for_each_visitor(server: Server) -> None:
    document = server.folder / "story.yml"
    try:
        document.write_text(DOCUMENT.replace("Tell a story", "Now & then"), encoding="utf-8")
        assert "<h1>Now &amp; then</h1>" in get(server.url).text
        hostile = '"</title></h1><img src=x onerror=alert(1)>\\u202e"'
        document.write_text(DOCUMENT.replace("Tell a story", hostile), encoding="utf-8")
        page = get(server.url).text
        assert "&lt;img src=x onerror=alert(1)&gt;" in page and "<img src=x" not in page
        document.write_text("component: [", encoding="utf-8")
        answer = get(server.url)
        assert answer.status_code == 200
        assert "<h1>Workflows</h1>" in answer.text
    finally:
        document.write_text(DOCUMENT, encoding="utf-8")


def test_kernels_of_pages_that_nobody_opens_end(tmp_path: Path) -> None:
    with dashboard(tmp_path, DOCUMENT, "--VisitorKernels.connect_seconds=0.1") as server:
        kernel = kernel_of(get(server.url))
        _, alive = psutil.wait_procs(kernels(server), timeout=SECONDS)
        assert not alive
        assert get(f"{server.url}/api/kernels/{kernel}").status_code == 404


def test_other_addresses_need_a_token_which_is_told_nowhere(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sesame\r\n", encoding="utf-8-sig")
    options = ("--ip=0.0.0.0", "--base-url=stories", f"--token-file={tmp_path / 'token'}")
    with dashboard(tmp_path, DOCUMENT, *options) as server:
        url = f"{server.url}/stories/"
        with httpx.Client(timeout=SECONDS, follow_redirects=True) as client:
            form = client.get(url[:-1], params={"prompt": "Once"})
            assert "This page needs a token" in form.text
            field = {"_xsrf": client.cookies["_xsrf"]}
            wrong = client.post(form.url, data={**field, "password": "open"})
            assert wrong.status_code == 401
            assert "That is not the token" in wrong.text
            assert (
                "Tell a story" in client.post(form.url, data={**field, "password": "sesame"}).text
            )
            assert "Tell a story" in client.get(url).text
        assert "needs a token" in httpx.get(url, follow_redirects=True).text
        assert httpx.get(url, params={"token": "sesame"}, timeout=SECONDS).status_code == 200
        httpx.get(f"{url}voila/templates/x", params={"token": "sesame"})  # which Voila fails at
        assert "sesame" not in kernels(server)[0].environ().values()
        log = server.log.read_text()
        assert "voila/templates/x?…" in log
        assert "sesame" not in log


def test_a_token_may_come_from_the_environment(tmp_path: Path) -> None:
    with dashboard(tmp_path, DOCUMENT, MODELCOMPOSE_TOKEN="sesame") as server:
        assert "needs a token" in httpx.get(server.url, follow_redirects=True).text
        assert get(server.url, Authorization="token sesame").status_code == 200
        assert "MODELCOMPOSE_TOKEN" not in kernels(server)[0].environ()


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options], cwd=folder, capture_output=True, text=True, timeout=SECONDS
    )


def test_a_busy_port_is_an_error_and_no_other_is_taken(tmp_path: Path) -> None:
    (tmp_path / "story.yml").write_text(DOCUMENT)
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        done = run(tmp_path, "story.yml", f"--port={port}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"port {port} of 127.0.0.1 is taken\n")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name one document"),
        (["nothing.yml"], "there is no file nothing.yml"),
        (["story.yml", "--ip=0.0.0.0"], "a page at 0.0.0.0 can be reached from other computers"),
        (["story.yml", "--ip="], "needs a token"),
        (["story.yml", "--token-file=nothing"], "cannot read the token's file"),
    ],
)
def test_bad_use_is_told_in_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    (tmp_path / "story.yml").write_text(DOCUMENT)
    monkeypatch.chdir(tmp_path)
    for name in ("JUPYTER_PATH", DOCUMENT_VARIABLE):  # which it sets
        monkeypatch.setenv(name, "")
    try:
        with pytest.raises(SystemExit) as ended:
            main(options)
    finally:
        Dashboard.clear_instance()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) <= 2, "a sentence and a hint"


def test_it_ends_with_the_process_that_started_it_and_so_do_its_kernels(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with dashboard(tmp_path, DOCUMENT, f"--parent={parent.pid}") as server:
        get(server.url)
        processes = [psutil.Process(server.process.pid), *kernels(server)]
        assert len(processes) == 2
        parent.kill()
        parent.wait()
        server.process.wait(SECONDS)
        assert not psutil.wait_procs(processes, timeout=SECONDS)[1]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_a_signal_ends_it_and_its_kernels(tmp_path: Path) -> None:
    with dashboard(tmp_path, DOCUMENT) as server:
        get(server.url)
        (kernel,) = kernels(server)
        server.process.terminate()
        assert server.process.wait(SECONDS) == 0
        assert not psutil.wait_procs([kernel], timeout=SECONDS)[1]


def test_the_template_is_installed_where_voila_looks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    installed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    (source,) = (source for source, target in installed.items() if target == "share/jupyter")
    template = ROOT / source / "voila" / "templates" / "modelcompose"
    assert json.loads((template / "conf.json").read_text())["base_template"] == "lab"
    assert (template / "index.html.j2").is_file()


def test_the_guide_names_every_option() -> None:
    guide = (ROOT / "docs" / "dashboard.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`--([\w-]+)`", guide))
    assert named == set(Dashboard.aliases)
