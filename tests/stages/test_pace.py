"""What the stages tell of how far they have come, by clocks that tests set."""

import contextlib
import functools
import re
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from robust_manifold import data, experiment
from robust_manifold.config import default_config, validate
from robust_manifold.findings import all_stages
from robust_manifold.runtime import console
from robust_manifold.runtime.progress import Progress
from robust_manifold.stages import RUNS
from robust_manifold.stages.context import Context
from robust_manifold.stages.table import attack, crafting, pace
from robust_manifold.stages.table.pace import Pace, Part

DEFENCE = "invert_and_classify(solver=adam(steps=5), restarts=2)"
ROUND, ROUNDS = 10, 6
PASSES = {
    # A forward for the random start, ten steps, a forward at the end.
    ("oblivious", "fgsm(epsilon=0.1)"): 1 + 1,
    ("oblivious", "pgd(epsilon=0.2, steps=10)"): 12 + 10,
    # The search: 5 steps of 2 starts, there and back; the gradient: the best start's
    # steps again, their values once more, and back; each time through the classifier.
    ("unrolled", "fgsm(epsilon=0.1)"): 21 + 41,
    ("unrolled", "pgd(epsilon=0.2, steps=10)"): 12 * 21 + 10 * 41,
}
"""By adversary and attack, what one image takes."""
WORK = ROUND * ROUNDS * sum(PASSES.values())


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Folder:
    """Holds the names of files alone."""

    def __init__(self):
        self.files = set()

    def has(self, file):
        return file in self.files

    def write_npz(self, file, arrays):
        del arrays
        self.files.add(file)


@pytest.fixture
def clock(monkeypatch):
    """Returns the clock by which all progress goes, and an image 0.1 s a pass."""
    clock = Clock()
    monkeypatch.setattr(pace, "Progress", functools.partial(Progress, clock=clock))

    def craft(self, group, part, tell, *more):
        del self, more
        for row in group:
            clock.now += 0.1 * len(part.labels) * PASSES[row.adversary, row.name]
            tell(len(part.labels), len(part.labels))
        return [{} for _ in group]

    monkeypatch.setattr(crafting.Crafting, "craft", craft)
    return clock


@pytest.fixture
def context():
    """Returns as much of a run as the stage `attack` asks for."""
    config: Any = default_config()
    config.evaluation.attacks = ("fgsm(epsilon=0.1)", "pgd(epsilon=0.2, steps=10)")
    config.evaluation.adversaries = ("oblivious", "unrolled")
    config.evaluation.defences = ("none", DEFENCE)
    config.evaluation.round_size = ROUND
    n = ROUND * ROUNDS
    images = np.zeros((n, 1, 1, 1), np.uint8)
    return stub(
        experiment=validate(config),
        data=SimpleNamespace(
            test=data.Split(images, np.zeros(n, np.int32), np.arange(n)),
            dataset=SimpleNamespace(class_names=("0", "1", "2")),
        ),
        networks=SimpleNamespace(
            roles=("generator",), generator=SimpleNamespace(input_shape=(64,))
        ),
        folder=Folder(),
        stop=SimpleNamespace(requested=False),
    )


def stub(**parts):
    """Returns a context that has some of its parts alone."""
    context = object.__new__(Context)
    context.__dict__.update(parts)
    return context


def seconds(text):
    """Returns the seconds of a duration such as "2 min 05 s"."""
    units = {"s": 1, "min": 60, "h": 3600}
    found = re.findall(r"(\d+) (s|min|h)\b", text)
    return sum(int(number) * units[unit] for number, unit in found)


def told(monkeypatch, clock):
    """Collects (second, images done, time left or None) of every line but the last."""
    lines = []

    def info(message):
        done = re.search(r"(\d+)/240 images", message)
        left = re.search(r"ETA (.*?)(  |$)", message)
        if done and "  in " not in message:
            lines.append((clock.now, int(done[1]), seconds(left[1]) if left else None))

    monkeypatch.setattr(console, "info", info)
    return lines


def test_the_time_left_of_attack_goes_by_what_attacks_cost(monkeypatch, clock, context):
    lines = told(monkeypatch, clock)
    attack.run(context)
    known = [(now, left) for now, _, left in lines if left is not None]
    assert len(known) > 5
    for now, left in known:
        # Units of a duration are rounded; nothing else is.
        assert now + left == pytest.approx(0.1 * WORK, rel=0.02), (now, left)
    # 120 of 240 images are cheap: half of the count is 3 % of the work.
    assert min(now for now, _ in known) > 0.03 * 0.1 * WORK


def test_stored_rounds_are_counted_and_tell_nothing_of_the_time(
    monkeypatch, clock, context
):
    attack.run(context)
    files, whole = sorted(context.folder.files), clock.now
    assert whole == pytest.approx(0.1 * WORK)
    # Of the dear row three of six rounds are missing, between stored ones.
    dear = [f for f in files if "unrolled" in f and "pgd" in f]
    context.folder.files -= set(dear[1::2])
    lines, start = told(monkeypatch, clock), clock.now
    attack.run(context)
    taken = clock.now - start
    assert taken == pytest.approx(0.1 * 3 * ROUND * 662)
    known = [(now - start, left) for now, _, left in lines if left is not None]
    assert known
    for now, left in known:
        assert now + left == pytest.approx(taken, rel=0.02)


def test_a_part_that_ends_early_is_weighed_by_what_it_took():
    clock = Clock()
    parts = {"early": Part(100, 50.0), "whole": Part(100, 10.0)}
    told = Pace("attack", "images", parts, clock=clock)
    clock.now += 1
    told.advance("early", 1, cost=5.0)
    clock.now += 19 * 5
    told.advance("early", 19, cost=5.0)
    line = told._progress.line()
    # 80 at 5 and 100 at 10, at a pass a second.
    assert line == "20/200 images  6 % of the work  ETA 23 min 20 s"


def test_images_of_a_round_that_is_not_done_count_once():
    clock = Clock()
    told = Pace("attack", "images", {"a": Part(10, 2.0), "b": Part(10)}, clock=clock)
    told.within({"a": 4}, show=("row", "a"))
    assert told._progress.line() == "4/20 images  26 % of the work  row a"
    told.advance("a", 10)
    assert told._progress.line() == "10/20 images  66 % of the work"
    told.advance("b", 10)
    assert told._progress.line() == "20/20 images  100 % of the work"


def test_what_is_stored_is_counted_before_it_is_met():
    clock = Clock()
    parts = {"a": Part(10, 2.0, stored=10), "b": Part(10, stored=4)}
    told = Pace("attack", "images", parts, clock=clock)
    told.advance("a", 10, stored=True)
    assert told._progress.line() == "14/20 images  80 % of the work"
    clock.now += 3
    told.advance("b", 3)
    assert told._progress.line() == "17/20 images  90 % of the work  ETA 3 s"


@pytest.mark.parametrize("stage", all_stages())
def test_every_stage_has_a_heartbeat(stage, monkeypatch):
    beating = []

    def run(context):
        del context
        beating.append("heartbeat" in {thread.name for thread in threading.enumerate()})
        return []

    monkeypatch.setitem(RUNS, stage, run)
    monkeypatch.setattr(experiment, "Journal", lambda *_: contextlib.nullcontext())
    folder = SimpleNamespace(
        stage_done=lambda stage: False,
        begin_stage=lambda *_, **__: None,
        add_seconds=lambda *_: None,
        finish_stage=lambda *_: None,
    )
    metrics = SimpleNamespace(enter=lambda: None)
    parts = {"folder": folder, "metrics": metrics, "stop": None}
    experiment._run_stage(stub(**parts), stage)
    assert beating == [True]
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}
