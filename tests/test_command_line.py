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
    assert str(changed.workdir) == "runs/named-A table-seed=3"


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


SWEEP = (
    CONFIG
    + """

def sweep(title="none"):
    for seed in range(3):
        for adversaries in (("oblivious",), ("oblivious", "unrolled")):
            yield {"seed": seed, "evaluation.adversaries": adversaries}
"""
)


@pytest.fixture
def swept(own):
    (own / "swept.py").write_text(SWEEP)
    return own


def test_a_run_of_a_sweep_has_its_changes(swept, parsed):
    run = parsed("--config=swept", "--sweep_index=3")
    assert run.experiment.seed == 1
    assert run.experiment.evaluation.adversaries == ("oblivious", "unrolled")
    assert run.config["seed"] == 1
    assert run.swept == ("seed", "evaluation.adversaries")
    assert parsed("--config=swept").experiment.seed == 0


def test_no_two_runs_meet_in_one_folder(swept, parsed):
    places = {f"--sweep_index={n}" for n in range(6)} | {"--config.data.flip=True"}
    runs = [
        parsed(f"--config=swept{argument}", *more).workdir
        for argument in ("", ":a")
        for more in ((), *((place,) for place in places))
    ]
    assert len({*runs}) == len(runs) == 16
    # What no result depends on is no other run.
    assert parsed("--config=swept", "--config.title=b").workdir in runs


def test_what_a_user_gives_counts_over_the_sweep(swept, parsed):
    run = parsed("--config=swept", "--sweep_index=2", "--config.seed=7")
    assert run.experiment.seed == 7
    assert "seed=7" in str(run.workdir)


@pytest.mark.parametrize("name", ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"])
def test_an_array_of_jobs_says_which_run_it_is(name, swept, parsed, monkeypatch):
    monkeypatch.setenv(name, "5")
    assert parsed("--config=swept").experiment.seed == 2
    assert parsed("--config=swept", "--sweep_index=0").experiment.seed == 0
    # Without a sweep it is none of our business.
    assert parsed("--config=named").experiment.seed == 0


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--sweep_index=6", "allowed: 0 to 5"),
        ("--sweep_index=x", "'x'; allowed: a number"),
        ("--sweep_index=-1", "'-1'; allowed: a number"),
    ],
)
def test_runs_that_there_are_not_are_one_sentence(flag, words, swept, parsed):
    with pytest.raises(UsageError, match=words):
        parsed("--config=swept", flag)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return []", "yields 0 runs"),
        ("yield 3", "yields 3; allowed: a dictionary"),
        ("yield {'sede': 1}", "sede"),
        ("yield {'seed': 1}; yield {'seed': 1}", "twice"),
    ],
)
def test_sweeps_that_are_none_are_one_sentence(body, words, own, parsed):
    (own / "bad.py").write_text(f"{CONFIG}\ndef sweep():\n    {body}\n")
    with pytest.raises(UsageError, match=words):
        parsed("--config=bad", "--sweep_index=0")


def test_an_index_without_a_sweep_is_one_sentence(own, parsed):
    with pytest.raises(UsageError, match="defines no sweep"):
        parsed("--config=named", "--sweep_index=0")
