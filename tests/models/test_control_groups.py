"""What a container may take of the machine's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelcompose_jupyter.models import control_groups, memory

STAT = "anon 10\n{0}active_file {1}\n{0}inactive_file {2}\nsock 0\n"


def group(folder: Path, limit: str, used: int, active: int = 0, inactive: int = 0) -> None:
    """As the second version has it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(STAT.format("", active, inactive))


def available(root: Path, own: str) -> int | None:
    file = root.parent / "cgroup"
    file.write_text(own)
    return control_groups.available(root, file)


def test_the_narrowest_of_the_groups_above_decides(tmp_path: Path) -> None:
    root = tmp_path / "groups"
    group(root / "user", "1000", 700, 50, 30)
    group(root / "user" / "kernel", "5000", 600)
    assert available(root, "0::/user/kernel\n") == 380
    group(root / "user" / "kernel", "700", 600, 5, 6)
    assert available(root, "0::/user/kernel\n") == 111
    group(root / "user" / "kernel", "500", 600)
    assert available(root, "0::/user/kernel\n") == 0


def test_without_a_limit_there_is_none(tmp_path: Path) -> None:
    root = tmp_path / "groups"
    group(root / "user", "max", 700)
    assert available(root, "0::/user\n") is None
    assert available(root, "") is None
    assert control_groups.available(root, tmp_path / "none") is None


def test_in_a_container_the_group_is_what_is_mounted(tmp_path: Path) -> None:
    root = tmp_path / "groups"
    group(root, "900", 100)
    assert available(root, "0::/docker/0123\n") == 800
    assert available(root, "0::/\n") == 800


def test_the_first_version_has_names_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "groups" / "memory" / "docker"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("2000\n")
    (folder / "memory.usage_in_bytes").write_text("500\n")
    (folder / "memory.stat").write_text(STAT.format("total_", 7, 8))
    own = "5:cpu,cpuacct:/other\n4:hugetlb,memory:/docker\n0::/\n"
    assert available(tmp_path / "groups", own) == 1515


def test_a_model_has_no_more_than_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.MappedWeights, "total", lambda: 0)  # of other tests
    monkeypatch.setattr(control_groups, "available", lambda: 1 << 20)
    assert memory.available("cpu") <= 1 << 20
    assert memory.is_short(1 << 20, "cpu")
    assert memory.use().available == 1 << 20
    monkeypatch.setattr(control_groups, "available", lambda: None)
    assert memory.available("cpu") > 1 << 20
