"""An experiment is named by a file, or by its name among those of the package."""

import pytest
from absl import flags

from robust_manifold import command_line
from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import shipped

NEIGHBOUR = "from robust_manifold.config import default_config as made\n"
CONFIG = """
import beside_named_configs


def get_config(title="none"):
    config = beside_named_configs.made()
    config.title = title
    return config
"""


@pytest.fixture
def parsed(monkeypatch):
    """Returns the arguments of a command line, as a function of it."""

    def parse(*given):
        values = flags.FlagValues()
        command_line.define_flags(values)
        argv = ["main.py", *given]
        monkeypatch.setattr("sys.argv", argv)
        command_line.parse(argv, values)
        return command_line.arguments(values)

    return parse


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Returns a folder whose experiment `named` is the package's only one."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "beside_named_configs.py").write_text(NEIGHBOUR)
    (folder / "named.py").write_text(CONFIG)
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "robust_manifold")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("name", ["tiny", "mnist_manifolds:vae"])
def test_a_name_is_the_file_of_that_name(name, parsed):
    file, colon, argument = name.partition(":")
    path = f"{shipped.folder('experiments') / file}.py{colon}{argument}"
    assert parsed(f"--config={name}") == parsed("--config", path)
    assert str(parsed("--config", name).workdir) == f"runs/{name.replace(':', '-')}"


def test_a_named_config_imports_its_neighbours_and_takes_changes(own, parsed):
    assert parsed("--config=named").experiment.title == "none"
    changed = parsed("--config=named:A table", "--config.seed=3")
    assert (changed.experiment.title, changed.experiment.seed) == ("A table", 3)
    assert str(changed.workdir) == "runs/named-A table"


def test_of_several_configs_the_last_counts(own, parsed):
    given = parsed("--config=named:a", "--config=named:b")
    assert given.experiment.title == "b"


def test_a_file_of_the_working_directory_comes_first(own, parsed):
    (own.parent / "named").write_text(CONFIG.replace("none", "mine"))
    assert parsed("--config=named").experiment.title == "mine"


@pytest.mark.parametrize("value", ["nmaed", "nmaed:x", "runs/nmaed.py"])
def test_an_unknown_one_is_told_with_those_there_are(value, own, parsed):
    named = value.partition(":")[0]
    with pytest.raises(UsageError) as raised:
        parsed(f"--config={value}")
    assert str(raised.value) == (
        f"--config is {named!r}; allowed: an existing file, or one of "
        "beside_named_configs, named. Did you mean 'named'?"
    )
