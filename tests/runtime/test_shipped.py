"""What comes with the package is found beside it, and in a wheel within it."""

import pathlib

from robust_manifold.runtime import shipped


def test_folders_lie_beside_the_package_and_in_a_wheel_within(tmp_path, monkeypatch):
    package = tmp_path / "robust_manifold"
    package.mkdir()
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.py").touch()
    monkeypatch.setattr(shipped, "_PACKAGE", package)
    assert shipped.folder("experiments") == tmp_path / "experiments"
    # Where it is installed, what lies beside it is another package's.
    (package / "experiments").mkdir()
    for name in ("b.py", "a.py", "a.txt"):
        (package / "experiments" / name).touch()
    assert shipped.folder("experiments") == package / "experiments"
    assert shipped.experiments() == {
        "a": package / "experiments" / "a.py",
        "b": package / "experiments" / "b.py",
    }


def test_the_experiments_are_those_of_the_checkout():
    folder = pathlib.Path(__file__).parents[2] / "experiments"
    assert set(shipped.experiments().values()) == set(folder.glob("*.py"))
