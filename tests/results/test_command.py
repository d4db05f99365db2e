"""The page from run folders and from their records; mistakes are one sentence."""

import json
import pathlib
import runpy

import pytest

from robust_manifold.runtime import Artefacts

FLAG = {"verdict": "FLAG", "name": "cost", "value": 1.0, "column": "none"}
FLAG |= {"sentence": "Of 'folder:/home/me/digits' nothing is left."}
INC = "invert_and_classify(restarts=4)"


def status_of(config):
    return {"command": ["main.py", f"--config={config}"]}


def test_records_give_the_same_page_as_the_runs_do(make_run, page, tmp_path):
    runs = [make_run("a"), make_run("b", seed=1)]
    text = page(*runs)
    assert page(*reversed(runs)) == text
    assert page("--record", *runs) == text == page()
    assert "/home" not in text
    for file in (tmp_path / "docs").rglob("*.*"):
        assert b"/home" not in file.read_bytes(), file


def test_check_tells_whether_the_page_is_that_of_the_records(make_run, ended, tmp_path):
    assert ended("--record", make_run())[0] == 0
    file = tmp_path / "docs/results/mnist.md"
    assert ended("--check") == (0, "", "")
    file.write_text(file.read_text().replace("97.0 %", "99.0 %"))
    edited = file.read_bytes()
    code, out, error = ended("--check")
    assert (code, out) == (1, "")
    assert "mnist.md is not up to date: run robust-manifold results" in error
    assert error.count("\n") == 1 and file.read_bytes() == edited
    file.unlink()
    assert ended("--check")[0] == 1 and not file.exists()


def test_a_record_is_replaced_whole(make_run, ended, tmp_path):
    record = tmp_path / "docs" / "results" / "records" / "mnist-0"
    audited = {"audit.json": []}
    assert ended("--record", make_run("a", files=audited))[0] == 0
    assert (record / "audit.json").exists()
    assert ended("--record", make_run("b"))[0] == 0
    assert not (record / "audit.json").exists()
    assert ended("--record", str(record))[0] == 0
    assert sorted(path.name for path in record.iterdir()) == [
        *("checksums.json", "config.json", "data.json", "experiment.json"),
        *("results.csv", "status.json", "worst_cases.csv"),
    ]


def test_words_are_those_of_the_experiments_file(make_run, page, tmp_path):
    folder = tmp_path / "docs" / "results" / "words"
    folder.mkdir(parents=True)
    (folder / "mnist.md").write_text("It holds.\n")
    (folder / "other.md").write_text("Not here.\n")
    text = page(make_run())
    assert "## What it says\n\nIt holds.\n" in text and "Not here" not in text
    other = status_of("experiments/gan_1d.py")
    assert "Nothing has been written" in page(make_run("b", status=other))


def one_sentence(result, *named):
    code, out, error = result
    assert (code, out) == (2, "")
    assert error.startswith("robust_manifold: ") and error.count("\n") == 1
    for text in named:
        assert text in error


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"status": {"state": "interrupted"}}, "is 'interrupted'; allowed: a finished"),
        ({"status": {"finished_stages": {}}}, "lacks the stage evaluate"),
        ({"status": {"versions": None}}, "status.json is damaged (versions)"),
        ({"status": {"devices": {"kind": "cpu"}}}, "status.json lacks 'devices'"),
        ({"status": {"devices": 2}}, "status.json is damaged (devices)"),
        ({"files": {"given.json": [{"file": "x"}]}}, "given.json is not what this ver"),
        ({"files": {"pairs.json": ["x"]}}, "pairs.json is not what this version"),
        ({"status": {"command": ["main.py"]}}, "names no experiment"),
        ({"config": {"seed": "none"}}, "config.json is damaged: seed is 'none'"),
        ({"config": {"generator": True}}, "config.json is damaged: generator is True"),
        ({"config": {"pretrained": {"x": 1}}}, "damaged: pretrained is {'x': 1}"),
        ({"config": {"classifiers": ["x"]}}, "damaged: classifiers is ['x']"),
        ({"config": {"classifiers": {"x": 1}}}, "damaged: classifiers.x is 1"),
        ({"config": {"classifiers": {"x": {}}}}, "lacks 'classifiers.x.training'"),
        ({"config": {"stages": [1]}}, "damaged: stages is [1]"),
        ({"config": {"evaluation": {}}}, "lacks 'evaluation.confidence'"),
        ({"config": {"data": {"source": 1}}}, "damaged: data.source is 1"),
        ({"files": {"results.csv": None}}, "lacks results.csv"),
        ({"files": {"results.csv": "classifier,n\n"}}, "has the columns classifier, n"),
    ],
)
def test_runs_that_cannot_be_used_are_one_sentence(make_run, ended, changes, named):
    bad = make_run("bad", **changes)
    one_sentence(ended(make_run("good", seed=1), bad), bad, named)


def test_values_that_nobody_reads_may_be_odd(make_run, page):
    odd = {"pretrained": [{}], "generator": {"x": 1, "model": None}, "other": {"x": 1}}
    named = {"classifiers": {"robust": {"training": "text", "from_run": 3}}}
    assert "97.0 %" in page(make_run(config=odd | named))


def test_folders_that_are_no_runs_are_one_sentence(make_run, ended, tmp_path):
    one_sentence(ended(str(tmp_path / "none")), "none is no folder")
    (tmp_path / "empty").mkdir()
    one_sentence(ended(str(tmp_path / "empty")), "empty lacks config.json")
    run = pathlib.Path(make_run())
    (run / "config.json").write_text("[")
    one_sentence(ended(str(run)), "config.json is damaged")
    one_sentence(ended(), "holds no record", "--record RUN")
    assert not (tmp_path / "docs" / "results.md").exists()


def test_bad_commands_are_one_sentence(make_run, ended):
    run = make_run()
    one_sentence(ended("--record"), "--record is given without a run")
    one_sentence(ended("--record", "--check", run), "--record is given with --check")
    one_sentence(ended(run, run), "the same experiment with the seed 0")
    one_sentence(ended("--html"), "--html", "--help")


def test_nothing_is_recorded_if_runs_do_not_fit_together(make_run, ended, tmp_path):
    one_sentence(ended("--record", make_run("a"), make_run("b")), "seed 0")
    assert not (tmp_path / "docs").exists()


def test_no_figure_is_typed_into_a_record(make_run, ended, tmp_path):
    ended("--record", make_run())
    record = tmp_path / "docs" / "results" / "records" / "mnist-0"
    results = (record / "results.csv").read_text()
    (record / "results.csv").write_text(results.replace("0.970000", "0.990000"))
    one_sentence(ended(), "mnist-0 is not as it was recorded", "results.csv")
    (record / "results.csv").write_text(results)
    (record / "worst_cases.csv").unlink()
    one_sentence(ended(), "mnist-0 lacks worst_cases.csv")


def test_a_record_keeps_what_the_run_was(make_run, ended, tmp_path):
    experiment = tmp_path / "faces.py"
    experiment.write_text('"""Faces.\n\nMore."""\nraise SystemExit("not to be run")\n')
    ended("--record", make_run(status=status_of(f"{experiment}:small"), seed=3))
    record = tmp_path / "docs" / "results" / "records" / "faces-small-3"
    about = json.loads((record / "experiment.json").read_text())
    del about["files"], about["origins"]
    assert about == {"experiment": "faces", "argument": "small", "purpose": "Faces."}
    config = json.loads((record / "config.json").read_text())
    assert config["seed"] == 3 and config["data"]["data_dir"] == ""


def test_a_record_of_a_named_experiment_has_its_purpose(make_run, ended, tmp_path):
    ended("--record", make_run(status=status_of("mnist_manifolds:vae")))
    record = tmp_path / "docs" / "results" / "records" / "mnist_manifolds-vae-0"
    about = json.loads((record / "experiment.json").read_text())
    assert (about["experiment"], about["argument"]) == ("mnist_manifolds", "vae")
    assert len(about["purpose"]) > 20


@pytest.mark.parametrize(
    "given",
    [
        {"config": {"pretrained": "npz:/home/me/digits.npz"}},
        {
            "config": {
                "evaluation": {"confidence": 0.95, "given": ["a(file='/home/x.npz')"]}
            }
        },
        {"status": {"command": ["m.py", "--config=/home/me/mnist.py", "--workdir=x"]}},
        {
            "status": {
                "command": ["m.py", "--config=x.py", "--config.y=('z(\"/home/x\")',)"]
            }
        },
        {"files": {"audit.json": [FLAG]}},
    ],
)
def test_no_path_of_a_machine_is_recorded(make_run, page, tmp_path, given):
    text = page("--record", make_run(**given))
    assert "/home" not in text
    for file in (tmp_path / "docs").rglob("*.*"):
        assert file.is_dir() or b"/home" not in file.read_bytes(), file


def test_a_record_of_another_config_is_told_of_when_replaced(make_run, ended):
    more = {"evaluation": {"confidence": 0.95, "examples": 200}}
    runs = [make_run("a"), make_run("b", config=more), make_run("c", config=more)]
    assert "replaces" not in ended("--record", runs[0])[1]
    code, out, _ = ended("--record", runs[1])
    assert code == 0
    assert "mnist-0: replaces a record of another config (evaluation.examples" in out
    assert "replaces" not in ended("--record", runs[2])[1]
    # Of two runs of one name, neither would outlive the other's record.
    one_sentence(ended("--record", *runs[:2]), "would both be recorded as mnist-0")


def test_nothing_is_recorded_that_gives_no_page(make_run, ended, tmp_path, lines):
    other = lines({"none": (97, 60, 0)})
    assert ended("--record", make_run("a"))[0] == 0
    page = (tmp_path / "docs" / "results.md").read_bytes()
    bad = make_run("b", seed=1, files=other)
    one_sentence(ended("--record", bad), "mnist", "other rows")
    assert (tmp_path / "docs" / "results.md").read_bytes() == page
    assert ended("--check") == (0, "", "")


def test_a_recording_that_was_killed_leaves_the_old_record(
    make_run, ended, tmp_path, monkeypatch, lines
):
    assert ended("--record", make_run("a"))[0] == 0
    changed = make_run("b", files=lines({"none": (90, 60, 0), INC: (95, 90, 70)}))
    write = Artefacts.write_bytes

    def killed(kept, name, data):
        if name == "results.csv":
            raise KeyboardInterrupt
        return write(kept, name, data)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Artefacts, "write_bytes", killed)
        ended("--record", changed)
    assert ended("--check") == (0, "", "")
    assert ended("--record", changed)[0] == 0
    assert "90.0 %" in (tmp_path / "docs/results/mnist.md").read_text()
    records = tmp_path / "docs" / "results" / "records"
    assert [path.name for path in records.iterdir()] == ["mnist-0"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_replacement_that_was_killed_loses_no_record(
    make_run, ended, tmp_path, monkeypatch, number, lines
):
    """Before the old record is laid aside, and before the new one has its place."""
    assert ended("--record", make_run("a"))[0] == 0
    changed = make_run("b", files=lines({"none": (90, 60, 0), INC: (95, 90, 70)}))
    rename, made = pathlib.Path.rename, []

    def killed(path, target):
        made.append(target)
        # What is dead does nothing more.
        if len(made) >= number:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pathlib.Path, "rename", killed)
        ended("--record", changed)
    assert ended("--check") == (0, "", "")
    assert ended("--record", changed)[0] == 0
    assert "90.0 %" in (tmp_path / "docs/results/mnist.md").read_text()
    records = tmp_path / "docs" / "results" / "records"
    assert [path.name for path in records.iterdir()] == ["mnist-0"]


def test_another_record_may_be_taken_up_after_that(make_run, ended, tmp_path):
    assert ended("--record", make_run("a"))[0] == 0
    records = tmp_path / "docs" / "results" / "records"
    (records / "mnist-0").rename(records / ".mnist-0.old")
    assert ended("--record", make_run("b", seed=1))[0] == 0
    assert sorted(path.name for path in records.iterdir()) == ["mnist-0", "mnist-1"]


def test_a_damaged_record_can_be_recorded_anew(make_run, ended, tmp_path):
    run = make_run()
    ended("--record", run)
    (tmp_path / "docs/results/records/mnist-0/results.csv").write_text("")
    assert ended()[0] == 2
    assert ended("--record", run)[0] == 0 and ended("--check")[0] == 0


def test_an_argument_makes_a_name_of_one_folder(make_run, ended, tmp_path):
    assert ended("--record", make_run(status=status_of("e/faces.py:a/../b")))[0] == 0
    records = tmp_path / "docs" / "results" / "records"
    assert [path.name for path in records.iterdir()] == ["faces-a-..-b-0"]


def test_the_package_runs_as_a_program(make_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["results", make_run()])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("robust_manifold.results", run_name="__main__")
    assert stopped.value.code == 0
    assert capsys.readouterr().out == "docs/results.md: 1 experiment, 1 run, 3 pages\n"
    assert (tmp_path / "docs" / "results.md").exists()


def test_pages_of_no_record_are_removed_and_words_are_not(make_run, ended, tmp_path):
    run, pages = make_run(), tmp_path / "docs/results"
    assert ended("--record", run)[0] == 0
    (pages / "old.md").write_bytes((pages / "mnist.md").read_bytes())
    (pages / "mine.md").write_text("Words.\n")
    assert "old.md is not up to date" in ended("--check")[2]
    assert ended()[0] == 0 and ended("--check")[0] == 0
    assert not (pages / "old.md").exists() and (pages / "mine.md").exists()


def test_words_where_a_page_belongs_are_not_replaced(make_run, ended, tmp_path):
    words = tmp_path / "docs/results/mnist.md"
    words.parent.mkdir(parents=True)
    words.write_text("Words.\n")
    one_sentence(
        ended("--record", make_run()), "mnist.md was not made by this", "words"
    )
    assert words.read_text() == "Words.\n"
    assert not (words.parent / "records").exists()
