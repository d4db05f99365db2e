"""A folder that one command fills: kept for it, refused to others."""

import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime.output_folder import OutputFolder


def test_the_same_request_finds_what_is_there(tmp_path):
    with OutputFolder(tmp_path / "new/out", {"seed": 1}) as folder:
        folder.write_text("a.txt", "a")
    with OutputFolder(tmp_path / "new/out", {"seed": 1}) as folder:
        assert folder.has("a.txt") and folder.read_text("a.txt") == "a"


def test_another_request_is_refused_once_there_is_something(tmp_path):
    OutputFolder(tmp_path, {"seed": 1}).close()
    # Nothing has been computed: perhaps a mistake just corrected.
    with OutputFolder(tmp_path, {"seed": 2}) as folder:
        folder.write_text("a.txt", "a")
    with pytest.raises(UsageError, match="seed is 3, stored 2"):
        OutputFolder(tmp_path, {"seed": 3})
    # A refused command leaves no lock behind.
    OutputFolder(tmp_path, {"seed": 2}).close()
    (tmp_path / "request.json").write_text("{")
    with pytest.raises(UsageError, match="request.json is missing or damaged"):
        OutputFolder(tmp_path, {"seed": 2})


def test_a_folder_in_use_or_of_another_origin_is_refused(tmp_path):
    with OutputFolder(tmp_path / "mine", {}):
        with pytest.raises(UsageError, match="is in use by process"):
            OutputFolder(tmp_path / "mine", {})
    with pytest.raises(UsageError, match="holds other files .'mine'"):
        OutputFolder(tmp_path, {})


def test_what_a_kill_at_the_start_leaves_is_no_obstacle(tmp_path):
    (tmp_path / "lock").touch()
    (tmp_path / ".request.json.partial").touch()
    OutputFolder(tmp_path, {}).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lock", "request.json"]
