"""The files of deploy/: what can be said of them where no container and no cluster is."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelcompose_jupyter.cli import main
from modelcompose_jupyter.document import load_document

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = ("kubernetes.yaml", "kuberay.yaml")
UNIT = DEPLOY / "model-compose.service"


def manifest(name: str) -> dict[str, Any]:
    """The resources of a file, by kind."""
    found = list(yaml.safe_load_all((DEPLOY / name).read_text("utf-8")))
    assert all({"apiVersion", "kind", "metadata"} <= each.keys() for each in found)
    return {each["kind"]: each for each in found}


def pods(resources: dict[str, Any]) -> list[dict[str, Any]]:
    """The templates of all pods."""
    if "Deployment" in resources:
        return [resources["Deployment"]["spec"]["template"]]
    cluster = resources["RayJob"]["spec"]["rayClusterSpec"]
    return [each["template"] for each in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, with what each says, continued lines as one."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    assert all(re.match(r"(ARG|FROM|RUN|ENV|WORKDIR|COPY|USER|VOLUME|EXPOSE|HEALTHCHECK|"
                        r"ENTRYPOINT|CMD) ", line) for line in lines), lines  # fmt: skip
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines]


def of(kind: str) -> list[str]:
    return [said for each, said in instructions() if each == kind]


def command_lines() -> dict[str, list[str]]:
    """The arguments with which each file calls `model-compose`."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    kubernetes = pods(manifest("kubernetes.yaml"))[0]["spec"]["containers"][0]["args"]
    ray = shlex.split(manifest("kuberay.yaml")["RayJob"]["spec"]["entrypoint"])
    started = re.search(
        r"^ExecStart=\S+/model-compose (.*)$", UNIT.read_text("utf-8"), re.MULTILINE
    )
    assert started is not None and ray[0] == "model-compose"
    return {
        "Dockerfile": yaml.safe_load(of("CMD")[0]),
        "compose.yaml": compose["services"]["model-compose"]["command"],
        "kubernetes.yaml": kubernetes,
        "kuberay.yaml": ray[1:],
        "model-compose.service": shlex.split(started[1]),
    }


@pytest.mark.parametrize("file", [*command_lines()])
def test_the_command_is_one(file: str) -> None:
    name, *arguments = command_lines()[file]
    command = main.commands[name]
    if file == "kuberay.yaml" and not any("--ray" in each.opts for each in command.params):
        pytest.skip("there is no --ray")
    parsed = command.make_context(name, [*arguments], resilient_parsing=False)
    file_option = parsed.params["file"] or parsed.params["document"]
    assert Path(str(file_option)).name == "model-compose.yml"
    # An image may get its token by the environment; all others name a file that nobody else reads.
    assert (parsed.params["token_file"] is None) == (file == "Dockerfile")


# The image


def test_the_image_is_run_by_nobody_in_particular() -> None:
    assert of("USER") == ["10001:10001"]
    assert of("FROM")[-1] == "$DEVICE"
    stages = {each.rpartition(" ")[2] for each in of("FROM")}
    assert {"cpu", "cuda"} <= stages
    assert {each.split()[0] for each in of("FROM")[:-1]} == {"python:3.11-slim"}
    assert of("ENTRYPOINT") == ['["model-compose"]']
    (health,) = of("HEALTHCHECK")
    assert "127.0.0.1:8080/api/health" in health
    compile(yaml.safe_load(health.partition("CMD ")[2])[2], "healthcheck", "exec")


def test_the_image_gets_what_a_package_is_built_of() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert ignored[0] == "*"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = {each for said in of("COPY") if "--from" not in said for each in said.split()[:-1]}
    assert copied == let_in
    assert all((ROOT / each).exists() for each in copied)


@pytest.mark.parametrize("file", sorted(each.name for each in DEPLOY.iterdir()))
def test_no_registry_is_named(file: str) -> None:
    text = (DEPLOY / file).read_text("utf-8")
    images = re.findall(r"(?:image:|FROM)\s+(\S+)", text)
    assert all("/" not in each and "." not in each.partition(":")[0] for each in images)
    assert not re.search(r"https?://(?!127\.0\.0\.1)", text)


# Compose


def test_the_compose_file_names_what_there_is() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    for service in compose["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert service["init"] is True
        assert all(each.startswith("127.0.0.1:") for each in service["ports"])
        assert set(service["secrets"]) <= compose["secrets"].keys()
        named = [each.split(":")[0] for each in service["volumes"] if isinstance(each, str)]
        assert set(named) <= compose["volumes"].keys()
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()
    arguments = compose["services"]["model-compose-cuda"]["build"]["args"]
    assert arguments.keys() <= {each.partition("=")[0] for each in of("ARG")}


# Kubernetes


@pytest.mark.parametrize("name", MANIFESTS)
def test_pods_find_what_they_mount(name: str) -> None:
    for pod in pods(manifest(name)):
        spec = pod["spec"]
        volumes = {each["name"] for each in spec["volumes"]}
        for container in spec["containers"]:
            mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
            assert mounted.keys() <= volumes
            assert mounted["document"] == "/documents"
            assert mounted["token"] == "/run/secrets/model-compose"
            assert mounted["cache"] == "/cache"  # where the image keeps models
            assert container["image"].startswith("model-compose")
    secrets = [each["secret"]["secretName"] for each in spec["volumes"] if "secret" in each]
    assert secrets == ["model-compose"]
    assert f"create secret generic {secrets[0]} --from-literal=token=" in (DEPLOY / name).read_text(
        "utf-8"
    )


@pytest.mark.parametrize("name", MANIFESTS)
def test_services_lead_to_pods(name: str) -> None:
    resources = manifest(name)
    service = resources["Service"]["spec"]
    (pod,) = [
        each
        for each in pods(resources)
        if service["selector"].items() <= each["metadata"]["labels"].items()
    ]
    ports = {each["name"] for each in pod["spec"]["containers"][0]["ports"]}
    assert {each["targetPort"] for each in service["ports"]} <= ports


def test_a_deployment_says_how_it_is() -> None:
    resources = manifest("kubernetes.yaml")
    spec = resources["Deployment"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/api/health", "port": "api"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert spec["replicas"] == 1  # runs live in one process
    user = spec["template"]["spec"]["securityContext"]
    assert (user["runAsNonRoot"], user["runAsUser"]) == (True, 10001)
    claim = resources["PersistentVolumeClaim"]["metadata"]["name"]
    claimed = [
        each for each in spec["template"]["spec"]["volumes"] if "persistentVolumeClaim" in each
    ]
    assert claimed[0]["persistentVolumeClaim"]["claimName"] == claim
    document = resources["ConfigMap"]["data"]["model-compose.yml"]
    assert load_document(document).default_workflow.title == "Story"


# systemd


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_the_unit_is_one_and_gives_little_away(tmp_path: Path) -> None:
    program = tmp_path / "model-compose"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = UNIT.read_text("utf-8").replace(
        "/opt/model-compose/bin/model-compose up", f"{program} up"
    )
    unit = tmp_path / UNIT.name
    unit.write_text(text, "utf-8")
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    exposed = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert exposed.returncode == 0, exposed.stdout[-500:] + exposed.stderr


def test_the_unit_writes_where_it_may() -> None:
    text = UNIT.read_text("utf-8")
    settings = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"\w+=", line))
    folders = {"%S": "StateDirectory", "%C": "CacheDirectory", "%t": "RuntimeDirectory"}
    written = re.findall(
        r"^(?:Environment=\w+|WorkingDirectory)=(%\w)/([\w-]+)", text, re.MULTILINE
    )
    assert len(written) == 6
    assert all(settings[folders[place]] == name for place, name in written)
    assert settings["LoadCredential"] == "token:/etc/model-compose/token"
    assert "${CREDENTIALS_DIRECTORY}/token" in settings["ExecStart"]
