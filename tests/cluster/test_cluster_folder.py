"""Folders of clusters that are started here."""

from __future__ import annotations

import stat
import subprocess
import sys

from modelcompose_jupyter.ray import cluster_folder
from modelcompose_jupyter.ray.cluster_folder import folder_of, make_folder


def test_what_a_killed_process_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_folder, "_LONGEST", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    lives, other = folder_of("lives"), folder_of("other")
    make_folder(lives)
    other.mkdir()  # nobody says whose it is
    code = (
        f"import tempfile; tempfile.tempdir = {str(tmp_path)!r}\n"
        "from modelcompose_jupyter.ray import cluster_folder\n"
        "cluster_folder._LONGEST = 1000\n"
        "cluster_folder.make_folder(cluster_folder.folder_of('killed'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert folder_of("killed").exists()
    make_folder(folder_of("next"))
    assert not folder_of("killed").exists()
    assert lives.exists() and other.exists()
    assert stat.S_IMODE(lives.stat().st_mode) == 0o700


def test_a_deep_folder_has_no_room_for_sockets(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/var/folders/of/somebody/very/deep")
    assert str(folder_of("a")) == "/tmp/mc-ray-a"
