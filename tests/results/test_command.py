"""The page from run folders and from their records; mistakes are one sentence."""

import json
import pathlib
import runpy

import pytest


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
    file = tmp_path / "docs" / "results.md"
    assert ended("--check") == (0, "", "")
    file.write_text(file.read_text().replace("97.0 %", "99.0 %"))
    edited = file.read_bytes()
    code, out, error = ended("--check")
    assert (code, out) == (1, "")
    assert "results.md is not up to date: run python" in error
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
    folder = tmp_path / "docs" / "results"
    folder.mkdir(parents=True)
    (folder / "mnist.md").write_text("It holds.\n")
    (folder / "other.md").write_text("Not here.\n")
    text = page(make_run())
    assert "### What it says\n\nIt holds.\n" in text and "Not here" not in text
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
        ({"status": {"versions": None}}, "status.json lacks 'versions'"),
        ({"status": {"command": ["main.py"]}}, "names no experiment"),
        ({"config": {"seed": "none"}}, "config.json lacks 'seed'"),
        ({"files": {"results.csv": None}}, "lacks results.csv"),
        ({"files": {"results.csv": "classifier,n\n"}}, "has the columns classifier, n"),
    ],
)
def test_runs_that_cannot_be_used_are_one_sentence(make_run, ended, changes, named):
    bad = make_run("bad", **changes)
    one_sentence(ended(make_run("good", seed=1), bad), bad, named)


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
    del about["files"]
    assert about == {"experiment": "faces", "argument": "small", "purpose": "Faces."}
    config = json.loads((record / "config.json").read_text())
    assert config["seed"] == 3 and config["data"]["data_dir"] == ""


def test_the_package_runs_as_a_program(make_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["results", make_run()])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("robust_manifold.results", run_name="__main__")
    assert stopped.value.code == 0
    assert capsys.readouterr().out == "docs/results.md: 1 experiments, 1 runs\n"
    assert (tmp_path / "docs" / "results.md").exists()
