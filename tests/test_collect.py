import io
import json
import subprocess
import sys

import pandas as pd
import pytest

from robust_manifold import collect
from robust_manifold.evaluation import Cell, GeneratorMeasures, measures_to_csv, to_csv
from robust_manifold.runtime import Artefacts

LINE = GeneratorMeasures(
    **dict.fromkeys(GeneratorMeasures._fields, 0.5)
    | dict.fromkeys(("n", "samples", "references", "k", "classes"), 10)
    | {"failed": 0, "steps": 500, "classes_covered": 9}
    | dict.fromkeys(("data", "classifier", "solver", "restarts", "features"), "same")
    | {"generator": "dcgan_generator(latent_size=4)", "training": "gan(loss='hinge')"}
)


@pytest.fixture
def runs(tmp_path):
    """Returns a function that makes a run folder with measures."""

    def make(name, text=None, confidence=0.95, **changes):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        if text is None:
            text = measures_to_csv([LINE._replace(**changes)])
        Artefacts(folder).write_text("measures.csv", text)
        config = {"evaluation": {"confidence": confidence}}
        (folder / "config.json").write_text(json.dumps(config))
        return str(folder)

    return make


@pytest.fixture
def ended(capsys):
    """Returns the program as a function: exit code, output and error text."""

    def run(*arguments):
        try:
            code = collect.main(arguments)
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    return run


def test_runs_stand_side_by_side_in_the_order_given(runs, ended):
    second = runs("vae", training="vae(beta=2.0)", error_mean=0.25, seconds=61.0)
    code, out, error = ended(second, runs("hinge"), "--format=md")
    assert (code, error) == (0, "")
    header = next(line for line in out.splitlines() if line.startswith("| Measure"))
    assert [cell.strip() for cell in header.split("|")[1:-1]] == [
        *("Measure", "vae", "hinge")
    ]
    rows = [line for line in out.splitlines() if line.startswith("| Error, mean")]
    assert [line.split() for line in rows][0][4:7] == ["|", "0.25000", "[0.50000,"]
    assert "1 min 01 s" in out and "VAE" in out and "Intervals of 95 %" in out


@pytest.mark.parametrize("form", ["console", "md", "tex", "csv"])
def test_every_format_shows_every_run(runs, ended, form):
    code, out, _ = ended(runs("one"), runs("two"), f"--format={form}")
    assert code == 0 and "one" in out and "two" in out
    if form == "csv":
        frame = pd.read_csv(io.StringIO(out))
        assert frame["name"].tolist() == ["one", "two"]
        assert frame["error_mean"].tolist() == [0.5, 0.5]


def test_the_console_is_the_default(runs, ended):
    folder = runs("one")
    assert ended(folder) == ended(folder, "--format=console")


def test_folders_of_one_name_are_told_apart(runs, ended):
    code, out, _ = ended(runs("a/best"), runs("b/best"), "--format=csv")
    assert code == 0
    assert pd.read_csv(io.StringIO(out))["name"].tolist() == ["a/best", "b/best"]


def test_intervals_are_those_of_the_runs(runs, ended):
    _, out, _ = ended(runs("one", confidence=0.9))
    assert "Intervals of 90 %" in " ".join(out.split())


GOOD = measures_to_csv([LINE])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", r"measures.csv has the columns (none)"),
        (GOOD.replace(",500,", ",many,"), "steps in line 2 of measures.csv is 'many'"),
        (GOOD.splitlines()[0] + "\n", "measures.csv is empty"),
    ],
)
def test_measures_that_cannot_be_read_are_one_sentence(runs, ended, text, named):
    bad = runs("bad", text=text)
    one_sentence(ended(runs("good"), bad), named, bad)


def one_sentence(result, *named):
    code, out, error = result
    assert (code, out) == (2, "")
    assert error.startswith("robust_manifold: ") and error.count("\n") == 1
    for text in named:
        assert text in error


def test_bad_folders_are_one_sentence(runs, ended, tmp_path):
    good = runs("good")
    one_sentence(ended(good, str(tmp_path / "nowhere")), "nowhere", "is no folder")
    (tmp_path / "empty").mkdir()
    one_sentence(ended(str(tmp_path / "empty")), "measures.csv has not been written")
    changed = runs("changed")
    with open(f"{changed}/measures.csv", "a") as file:
        file.write("\n")
    one_sentence(ended(good, changed), changed, "is damaged")
    one_sentence(ended(good, good), "is given twice")
    one_sentence(ended(good, f"{good}/../good"), "is given twice")
    other = runs("other", confidence=0.5)
    one_sentence(ended(good, other), "evaluation.confidence is not the same")


@pytest.mark.parametrize("odd", [True, "much", None, 10**400, [0.9], 2.0], ids=type)
def test_old_configs_of_odd_kinds_are_one_sentence(runs, ended, odd):
    """Those of older versions have no checksum."""
    one_sentence(
        ended(runs("odd", confidence=odd)),
        f"odd/config.json is damaged: evaluation.confidence is {odd!r}.",
    )


def test_bad_commands_are_one_sentence(runs, ended):
    one_sentence(ended(), "required: RUN")
    one_sentence(ended(runs("good"), "--format=pdf"), "'pdf'", "console", "--help")


def test_the_module_runs_as_a_program(runs):
    ended = subprocess.run(
        [sys.executable, "-m", "robust_manifold.collect", runs("one")],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Fréchet distance" in ended.stdout and not ended.stderr


CELL = Cell(
    **dict.fromkeys(Cell._fields)  # type: ignore[arg-type]
    | {"classifier": "cnn()", "defence": "none", "adversary": "none", "norm": ""}
    | {"attack": "clean", "n": 100, "correct": 80, "accuracy": 0.8}
    | {"accuracy_low": 0.7, "accuracy_high": 0.9}
)


def cells(*accuracies):
    """Returns lines of one classifier, untouched and under attacks."""
    attacked = {"adversary": "oblivious", "norm": "linf", "epsilon": 0.1}
    return [
        CELL._replace(
            accuracy=accuracy,
            correct=round(100 * accuracy),
            **({"attack": f"pgd(steps={place})", **attacked} if place else {}),
        )
        for place, accuracy in enumerate(accuracies)
    ]


@pytest.fixture
def swept(tmp_path):
    """Returns a function that makes a run folder of a sweep, with accuracies."""

    def make(name, *accuracies, swept=("seed", "generator.training"), **config):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        Artefacts(folder).write_text("results.csv", to_csv(cells(*accuracies)))
        whole = {"evaluation": {"confidence": 0.95}, "title": name, **config}
        (folder / "config.json").write_text(json.dumps(whole))
        (folder / "status.json").write_text(json.dumps({"swept": swept}))
        return str(folder)

    return make


def test_runs_that_differ_in_their_seed_are_one_line(swept, ended, tmp_path):
    runs = [
        swept(f"{training}-{seed}", 0.9, accuracy, seed=seed, generator=generator)
        for training in ("gan", "vae")
        for generator in [{"training": f"{training}()"}]
        for seed, accuracy in enumerate((0.82, 0.86, 0.84))
    ]
    code, out, error = ended(*runs, f"--output={tmp_path / 'all'}")
    assert (code, error) == (0, "")
    found = pd.read_csv(tmp_path / "all" / "accuracy.csv")
    assert len(found) == 4
    line = found.set_index(["config", "attack"]).loc[
        ("generator.training=vae()", "pgd(steps=1)")
    ]
    # Student's t of two degrees of freedom is 4.302653.
    half = 4.302653 * 0.02 / 3**0.5
    expected = [0.84, 0.02, 0.84 - half, 0.84 + half, 3, 0, 0.82]
    assert line.loc["mean":].tolist() == pytest.approx(expected, abs=1e-6)
    for ending in ("md", "tex", "png"):
        assert (tmp_path / "all" / f"accuracy.{ending}").stat().st_size
    assert "84.0 %" in out and "0 (82.0 %)" in out
    assert (
        "Means over seeds, with 95 % intervals of the mean in brackets; n = 100 test "
        "images a run." in " ".join(out.split())
    )


def test_one_run_has_the_interval_of_its_images(swept, ended):
    code, out, error = ended(swept("one", 0.8, seed=0), "--format=csv")
    assert (code, error) == (0, "")
    line = pd.read_csv(io.StringIO(out)).iloc[0]
    assert (line["low"], line["high"], line["runs"]) == (0.7, 0.9, 1)


def test_what_was_not_swept_is_named(swept, ended):
    size = {"round_size": 9, "confidence": 0.95}
    runs = [swept(f"run-{seed}", 0.8, seed=seed) for seed in range(3)]
    code, out, error = ended(*runs, swept("odd", 0.1, seed=3, evaluation=size))
    assert code == 0
    assert "odd: another evaluation.round_size, which was not swept" in error
    # It is no part of the mean over the others.
    assert "80.0 %" in out and "10.0 %" in out
