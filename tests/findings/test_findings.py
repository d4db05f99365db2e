"""The registry of findings, and the loops over it: stages, report, page of results."""

import shutil

import pytest

from robust_manifold import findings
from robust_manifold.config import STAGES, default_config, validate
from robust_manifold.findings import Finding, report
from robust_manifold.runtime import devices
from robust_manifold.runtime.run_folder import read_status

PATCH = "patch(steps=2, transformations=views(scale=(0.2, 0.3)))"


@pytest.fixture
def run(finished, program, tmp_path):
    """Returns the program on a copy of a finished run, and the copy."""
    work = tmp_path / "run"
    shutil.copytree(finished / "run", work)

    def call(*arguments):
        return program(
            f"--config={finished / 'tiny.py'}", f"--workdir={work}", *arguments
        )

    return call, work


def experiment(**keys):
    config = default_config()
    with config.unlocked():
        for key, value in keys.items():
            config.update_from_flattened_dict({key.replace("__", "."): value})
    return validate(config)


def test_names_are_given_once_and_every_stage_is_known():
    names = [finding.name for finding in findings.EVERY]
    assert len(set(names)) == len(names)
    every = findings.all_stages()
    assert len(set(every)) == len(every) and set(STAGES) <= set(every)
    for finding in findings.EVERY:
        assert (finding.name in every) is (finding.find is not None), finding.name
        assert not finding.after or finding.after in STAGES


def test_no_two_findings_write_to_one_place():
    places = [place for finding in findings.EVERY for place in finding.writes]
    for place in places:
        assert [other for other in places if other.startswith(place)] == [place]
    recorded = {f for finding in findings.EVERY for f in finding.recorded}
    assert recorded <= set(places)


def test_what_follows_a_stage_comes_after_it_where_the_config_asks_for_it():
    plain = experiment(stages=("evaluate", "audit", "report"))
    known = ("evaluate", "accuracy", "detection", "substitutes", "audit", "report")
    assert [s for s in findings.stages_of(plain) if s in known] == [
        *("evaluate", "accuracy", "detection", "audit", "report"),
    ]
    more = experiment(
        stages=("evaluate", "report"),
        overpowered__pairs=4,
        evaluation__adversaries=("oblivious", "latent", "substitute"),
        evaluation__validation_examples=0,
    )
    known = (*known, "on_manifold", "pairs", "given")
    assert [s for s in findings.stages_of(more) if s in known] == [
        *("evaluate", "accuracy", "on_manifold", "pairs", "substitutes", "report"),
    ]
    assert findings.stages_of(experiment(stages=("fit_classifier",))) == (
        "fit_classifier",
    )


def test_what_an_older_stage_stored_is_adopted():
    outputs = ["results.csv", "given.json", "given/a/b.npz", "outcomes/c.npz"]
    found = findings.adopted({"evaluate": outputs})
    assert found == {
        "evaluate": ["outcomes/c.npz"],
        "accuracy": ["results.csv"],
        "given": ["given.json", "given/a/b.npz"],
    }
    assert findings.adopted(found) == found


def test_a_finding_is_run_by_its_name_alone(run):
    call, work = run
    before = (work / "detection.csv").read_bytes()
    (work / "detection.csv").unlink()
    ended = call("--stages=detection")
    assert ended.code == 0, ended.error
    assert (work / "detection.csv").read_bytes() == before
    assert "accuracy" not in ended.error


@pytest.mark.parametrize(
    ("stage", "file", "told"),
    [
        ("accuracy", "worst_cases.csv", "lacks worst_cases.csv, which accuracy has"),
        ("measure", "measures.csv", "holds no results of the stage measure"),
    ],
)
def test_a_report_does_not_leave_out_what_was_deleted(run, stage, file, told):
    call, work = run
    (work / file).unlink()
    ended = call("--stages=report")
    assert ended.code == 2
    assert told in ended.error
    ended = call(f"--stages={stage},report")
    assert ended.code == 0, ended.error


def test_the_report_asks_no_other_process(run, monkeypatch):
    call, work = run
    (work / "report/report.html").unlink()

    def alone(context, real=report._report):
        def ask(*_):
            raise AssertionError("the first process is alone here")

        with monkeypatch.context() as patch:
            for name in ("agreed", "any_process", "barrier"):
                patch.setattr(devices, name, ask)
            real(context)

    monkeypatch.setattr(report, "_report", alone)
    ended = call("--stages=report")
    assert ended.code == 0, ended.error
    assert (work / "report/report.html").exists()


def test_a_finding_of_ones_own_is_one_file(run, monkeypatch):
    from tests.findings import confidence_found

    monkeypatch.setattr(findings, "EVERY", [*findings.EVERY, confidence_found.FINDING])
    call, work = run
    ended = call()
    assert ended.code == 0, ended.error
    assert "surest" in read_status(work)["finished_stages"]
    table = (work / "report/table.md").read_text()
    assert "How sure the classifiers are" in table
    assert call("--stages=surest").error.count("finished before") == 1


def test_a_report_says_what_has_not_finished(run, monkeypatch):
    call, _ = run
    from tests.findings import confidence_found

    monkeypatch.setattr(findings, "EVERY", [*findings.EVERY, confidence_found.FINDING])
    ended = call("--stages=report")
    assert ended.code == 0
    assert "without surest, which has not finished" in ended.error


def test_records_need_no_finding_that_is_younger_than_they_are():
    assert findings.needed(["fit_classifier", "evaluate"]) == set()
    assert findings.needed(["evaluate", "accuracy", "given"]) == {
        *("results.csv", "given.json"),
    }


def test_a_finding_needs_no_more_than_a_name_and_what_it_shows():
    bare = Finding(name="bare", show=lambda context: findings.Shown())
    assert [*bare.results(None)] == [] and bare.find is None
