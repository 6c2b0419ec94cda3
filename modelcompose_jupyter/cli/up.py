"""``up``, ``down``, ``status``, ``logs``: a document as a service."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ComposeError, UsageError
from ..terminal import width_of
from ..translation import localized
from .group import document_argument, document_path, file_option, main, say

if TYPE_CHECKING:
    from ..document import RayRuntime
    from ..server.server_info import ServerInfo
    from ..up.launch_config import LaunchConfig

_GB = 10**9
_LIMITS = (
    *("max_runs", "max_generations", "max_output_length", "max_run_seconds"),
    *("max_user_running", "max_user_runs", "max_user_tokens"),
    *("memory_budget", "cache_budget", "idle_timeout"),
)
_port = click.IntRange(0, 65535)
_positive = click.FloatRange(0, min_open=True)
all_option = click.option("--all", "everything", is_flag=True, help="All of yours, not one.")


@main.command()
@document_argument
@file_option
@click.option("--host", help="Where the run API listens; the document's, or 127.0.0.1.")
@click.option("--port", type=_port, help="Its port; the document's, or 8080. 0 is any.")
@click.option("--webui-host", help="Where the page listens; the document's, or 127.0.0.1.")
@click.option("--webui-port", type=_port, help="Its port; the document's, or 8081. 0 is any.")
@click.option("--base-path", help="What the run API's paths begin with; the document's, or /api.")
@click.option("--no-webui", is_flag=True, help="Serve the run API alone.")
@click.option(
    "--ray",
    "address",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value="",
    help="Run in the replicas of a Ray cluster: 'auto' is the one that this machine belongs to. "
    "Without an address one is started here. See also 'runtime' of the document's controller.",
)
@click.option(
    "--replicas",
    metavar="N|MIN-MAX",
    callback=lambda _, __, value: _replicas(value),
    help="How many replicas there are; the document's, or one for each GPU or node.",
)
@click.option("-d", "--detach", is_flag=True, help="Return when all is ready; see also 'down'.")
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False),
    help="The token that clients and visitors must present. Without one the environment variable "
    "MODELCOMPOSE_TOKEN is asked for it; at an address that other computers reach, one is made.",
)
@click.option(
    "--jupyterhub",
    "on_jupyterhub",
    is_flag=True,
    help="Be a service of the JupyterHub that started this: it says where, and its users may call.",
)
@click.option(
    "--user-documents",
    is_flag=True,
    help="Users may run documents of their own, on the models that are served.",
)
@click.option(
    "--max-user-running",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Runs of one user at a time. Others of theirs wait.",
)
@click.option(
    "--max-user-queue",
    "max_user_runs",
    type=click.IntRange(1),
    default=40,
    show_default=True,
    help="Runs of one user, those that wait included. More are refused.",
)
@click.option(
    "--max-user-tokens",
    type=click.IntRange(1),
    help="Tokens of one user in a minute, read and generated.",
)
@click.option(
    "--max-queue",
    "max_runs",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Runs at a time, those that wait included. More are refused.",
)
@click.option(
    "--max-generations",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Texts that one run may generate.",
)
@click.option(
    "--max-tokens", "max_output_length", type=click.IntRange(1), help="Tokens of a text at most."
)
@click.option(
    "--timeout",
    "max_run_seconds",
    type=_positive,
    default=3600,
    show_default=True,
    help="Seconds after which a run fails, waiting included.",
)
@click.option("--memory-budget", type=_positive, metavar="GB", help="Of weights in memory.")
@click.option("--cache-budget", type=_positive, metavar="GB", help="Of a model's keys and values.")
@click.option(
    "--idle-timeout", type=_positive, metavar="SECONDS", help="After which an idle model goes."
)
@click.option("--log-prompts", is_flag=True, help="Log inputs and texts, too.")
@click.option("-v", "--verbose", is_flag=True, help="Log every request and run.")
def up(
    document: str | None,
    file: str | None,
    no_webui: bool,
    detach: bool,
    verbose: bool,
    address: str | None,
    replicas: tuple[int, int] | None,
    **options: Any,
) -> None:
    """Serve a document: an HTTP API, and a page with its workflows' forms.

    Prints where both are once they answer, and runs until Ctrl-C; with -d it returns then, and
    'model-compose down' ends it. Models are loaded when they are first used.
    """
    from ..document import load_document
    from ..up.launch_config import launch_config
    from ..up.lifecycle import start_detached
    from ..up.supervisor import Supervisor

    path = document_path(file, document)
    served = load_document(path)
    for warning in served.warnings:
        say(f"warning: {warning}")
    limits = {name: options.pop(name) for name in _LIMITS}
    for budget in ("memory_budget", "cache_budget"):
        limits[budget] = limits[budget] and int(limits[budget] * _GB)
    log_level = "INFO" if verbose or detach else "WARNING"
    config = launch_config(
        path,
        served,
        webui=not no_webui,
        limits=limits,
        ray=_runtime(served.controller.ray, address, replicas),
        log_level=log_level,
        **options,
    )
    config.check()
    if sys.stderr.isatty():
        if config.ray is None:
            say(f"starting {config.title} …")
        else:
            say(f"starting {config.title} on {_cluster(config.ray)} …")
    if detach:
        start_detached(config)
        _tell(config)
        return

    def on_ready(_: ServerInfo) -> None:
        _tell(config)
        if sys.stderr.isatty():
            say("Ctrl-C ends it.")

    sys.exit(Supervisor(config, say).run(on_ready))


def _replicas(written: str | None) -> tuple[int, int] | None:
    """The least and the most of ``3`` or ``1-4``."""
    if written is None:
        return None
    least, _, most = written.partition("-")
    with contextlib.suppress(ValueError):
        if 1 <= int(least) <= int(most or least):
            return int(least), int(most or least)
    raise click.BadParameter("it is a number from 1 on, or two such as 1-4")


def _runtime(
    written: RayRuntime | None, address: str | None, replicas: tuple[int, int] | None
) -> RayRuntime | None:
    """Where it runs: as the document says, where an option does not.

    Raises:
        UsageError: that cannot be.
    """
    from ..document import RayRuntime

    if address is None and written is None:
        if replicas is not None:
            raise UsageError("--replicas is for --ray", hint="Without it, one process runs all.")
        return None
    if address is not None and Path(address).suffix in (".yml", ".yaml"):
        raise UsageError(
            f"'{address}' is no address of a cluster",
            hint="Write the document before --ray, or '-f' and the document.",
        )
    if find_spec("ray") is None:
        raise UsageError(
            "Ray is not installed here", hint="pip install 'modelcompose-jupyter[ray]' does it."
        )
    runtime = written or RayRuntime()
    if address is not None:
        runtime = replace(runtime, address=address or None)
    if replicas is not None:
        runtime = replace(runtime, min_replicas=replicas[0], max_replicas=replicas[1])
    return runtime


def _cluster(runtime: RayRuntime) -> str:
    """Where it is about to run, and what there is to wait for."""
    if runtime.address is None:
        return "Ray, which is started here: that takes a while"
    return f"the Ray cluster at {runtime.address}"


def _tell(config: LaunchConfig) -> None:
    """Say where everything is."""
    click.echo(f"API   {config.api_url}")
    if config.page_url is not None:
        click.echo(f"Page  {config.page_url}")
    tokens = {"API": config.token, "page": config.page_token}
    if who := " and ".join(name for name, token in tokens.items() if token):
        where = config.token_from or f"'client_token' in {config.server_info_path}"
        say(f"The {who} can only be used with the token: {where}.")


@main.command()
@file_option
@all_option
def down(file: str | None, everything: bool) -> None:
    """End what 'up' started, with all that belongs to it."""
    from ..server.server_info import find_servers
    from ..up import lifecycle

    document = None if everything else document_path(file)
    found = find_servers(document=document)
    started = [each for each in found if each.supervisor is not None]
    if not started:
        others = [f"It is served by the process {e.pid}, which 'up' did not start." for e in found]
        raise _not_up(document, others[0] if others else None)
    for each in started:
        lifecycle.end(each)
        say(f"ended {each.document}")


@main.command()
@file_option
@all_option
def status(file: str | None, everything: bool) -> None:
    """Say what is up: where, since when, with which models and runs. Status 1 if nothing is.

    JSON where standard output is no terminal.
    """
    from ..progress import as_text
    from ..server.server_info import find_servers
    from ..up import lifecycle
    from ..up.launch_config import log_path

    document = None if everything else document_path(file)
    found = [lifecycle.server_status(each) for each in find_servers(document=document)]
    if not found:
        crashed = document is not None and log_path(document).exists()
        hint = "It did not end well: model-compose logs" if crashed else None
        raise _not_up(document, hint)
    if sys.stdout.isatty():
        click.echo("\n\n".join(_described(each) for each in found))
    else:
        click.echo(as_text(found if everything else found[0]))
    if not any(each["answers"] for each in found):
        raise ComposeError("it does not answer", code="host_gone")


def _described(status: dict[str, Any]) -> str:
    from ..formatting import duration, size

    models = ", ".join(
        f"{each['source']} ({each['precision'] or 'loading'}, {size(each['memory_bytes'] or 0)})"
        for each in status["models"]
    )
    rows = {
        "Title": status["title"],
        "API": status["api"],
        "Page": status["page"],
        "Document": status["document"],
        "Process": status["pid"],
        "Up for": duration(status["uptime"]),
        "Runs": f"{status['runs']} in flight" if status["answers"] else "does not answer",
        "Models": models or "none in memory",
        "Log": status["log"],
    }
    said = {localized(name): value for name, value in rows.items() if value}
    width = max(map(width_of, said)) + 3
    return "\n".join(
        f"{name}{' ' * (width - width_of(name))}{localized(str(value))}"
        for name, value in said.items()
    )


@main.command()
@file_option
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=100, show_default=True, help="How many."
)
@click.option("--follow", is_flag=True, help="Go on with what comes, until it ends or Ctrl-C.")
def logs(file: str | None, lines: int, follow: bool) -> None:
    """Print the log of what 'up -d' started."""
    from ..server.server_info import find_servers
    from ..up import lifecycle
    from ..up.launch_config import log_path

    document = document_path(file)
    path = log_path(document)
    if not path.exists():
        is_up = bool(find_servers(document=document))
        where = "the terminal of its 'up' has it" if is_up else "it is not up"
        raise ComposeError(f"there is no log of {document}: {where}", code="no_log")
    if not follow:
        click.echo("".join(f"{line}\n" for line in lifecycle.last_lines(path, lines)), nl=False)
        return
    for line in lifecycle.follow_log(path, lines, lambda: bool(find_servers(document=document))):
        click.echo(line)


def _not_up(document: Path | None, hint: str | None) -> ComposeError:
    message = "nothing is up" if document is None else f"{document} is not up"
    return ComposeError(message, hint=hint, code="not_up")
