import jax.numpy as jnp
import pytest

from robust_manifold.runtime import console, progress
from robust_manifold.runtime.progress import Heartbeat, Progress, Work, duration


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(log_file):
    console.setup()
    return Clock()


def lines(log_file):
    return [line.split("  ", 1)[1] for line in log_file.getvalue().splitlines()]


def test_lines_in_a_log(clock, log_file):
    with Progress(4000, "fit_generator", clock=clock) as progress:
        clock.now += 30  # compilation
        progress.update(1, d_loss=jnp.float32(2), g_loss=1.0)
        for step in range(2, 802):
            clock.now += 1 / 40
            progress.update(step, d_loss=jnp.float32(1.324), g_loss=0.81)
        clock.now += 1
    assert lines(log_file) == [
        "fit_generator  1/4000 steps  0 %  d_loss 2 g_loss 1",
        "fit_generator  401/4000 steps  10 %  40 steps/s  ETA 1 min 30 s  "
        "d_loss 1.32 g_loss 0.81",
        "fit_generator  801/4000 steps  20 %  40 steps/s  ETA 1 min 20 s  "
        "d_loss 1.32 g_loss 0.81",
        "fit_generator  801/4000 steps  20 %  38.1 steps/s  in 51 s  "
        "d_loss 1.32 g_loss 0.81",
    ]


def test_a_resumed_loop_counts_its_own_steps_only(clock):
    progress = Progress(2000, "fit", "images", start=1000, clock=clock)
    clock.now += 60
    progress.update(1010)
    clock.now += 10
    progress.update(1110)
    assert progress.line() == "1110/2000 images  55 %  10 images/s  ETA 1 min 29 s"


def test_values_are_waited_for_only_when_printed(clock, log_file):
    class Value:
        def __float__(self):
            asked.append(clock.now)
            return 1.0

    asked = []
    with Progress(100, "fit", clock=clock) as progress:
        for step in range(1, 101):
            clock.now += 0.5
            progress.update(step, loss=Value())
    assert len(asked) == len(lines(log_file)) == 6


def test_one_update_alone_has_no_rate(clock, log_file):
    with Progress(1, "report", clock=clock) as progress:
        clock.now += 3
        progress.update(1)
    assert lines(log_file) == ["report  1/1 steps  100 %  in 3 s"]


def test_an_exception_or_no_update_prints_nothing(clock, log_file):
    with pytest.raises(KeyError), Progress(2, "fit", clock=clock) as progress:
        progress.update(1)
        raise KeyError
    with Progress(0, "nothing", clock=clock) as progress:
        assert progress.line() == "0/0 steps  100 %"
    assert lines(log_file) == []


def test_other_processes_print_nothing(clock, log_file):
    with Progress(2, "fit", enabled=False, clock=clock) as progress:
        clock.now += 100
        progress.update(1)
    assert log_file.getvalue() == ""


def test_a_bar_on_a_terminal(terminal):
    console.setup()
    clock = Clock()
    with Progress(10, "fit [x]", clock=clock) as progress:
        for step in range(1, 10):
            clock.now += 1
            progress.update(step, loss=0.5)
        bar = progress._bar
        bar.refresh()
        (task,) = bar.tasks
        assert (task.completed, task.total) == (9, 10)
        assert task.fields["line"] == "9/10 steps  90 %  1 steps/s  ETA 1 s  loss 0.5"
        console.info("a line above the bar")
    text = terminal.getvalue()
    assert "fit [x]" in text and "━" in text and "a line above the bar" in text
    assert text.endswith("fit [x]  9/10 steps  90 %  1 steps/s  in 9 s  loss 0.5\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.9, "1 h 00 min")]
    + [(86_399, "23 h 59 min"), (86_400, "1 d 00 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_large_values_are_written_in_full(clock):
    progress = Progress(1, "x", clock=clock)
    progress.update(1, a=12345.6, b=1e9, c=float("nan"), d=-0.000123456)
    assert progress.line().endswith("a 12346 b 1e+09 c nan d -0.000123")


def test_chunks_tell_the_total_themselves(clock, log_file):
    with Progress(0, "attack", "images", clock=clock) as progress:
        progress.chunk(32, 100)
        clock.now += 10
        progress.chunk(64, 100)
    assert lines(log_file)[0] == "attack  64/100 images  64 %  3.2 images/s  ETA 11 s"


def test_a_silent_loop_is_told_of_within_half_a_minute(clock, log_file):
    with Progress(10, "attack", "images", clock=clock) as progress:
        clock.now += 20
        progress.update(2, row="fgsm", loss=Unready())
        clock.now += 40
        progress.update(4, row="fgsm", loss=1.0)
        for _ in range(60):  # Nothing is ready for five minutes.
            clock.now += 5
            Heartbeat("attack", clock=clock).beat()
        clock.now += 1
    told = lines(log_file)
    # Told at 20 and 60 seconds; from then on every half minute, and at the end.
    assert len(told) == 2 + 10 + 1
    assert told[1].endswith("0.05 images/s  ETA 2 min 00 s  row fgsm loss 1")
    assert (
        told[2] == "attack  4/10 images  40 %  0.05 images/s  ETA 1 min 30 s  row fgsm"
    )
    assert told[7] == told[2].replace("ETA 1 min 30 s", "later than told")


class Unready:
    """A value that is not waited for while nothing goes on."""

    def __float__(self):
        return 0.0


def test_before_the_first_update_a_line_says_for_how_long(clock, log_file):
    with Progress(10, "audit", "checks", clock=clock):
        beat = Heartbeat("audit", clock=clock)
        for _ in range(7):
            clock.now += 5
            beat.beat()
    assert lines(log_file) == ["audit  0/10 checks  0 %  running for 30 s"]


def test_a_stage_without_a_loop_is_told_of_too(clock, log_file):
    beat = Heartbeat("report", clock=clock)
    for _ in range(13):
        clock.now += 5
        beat.beat()
    assert lines(log_file) == [
        "report  running for 30 s",
        "report  running for 1 min 00 s",
    ]


def test_a_loop_may_end_while_a_heartbeat_looks_for_it(clock, monkeypatch, log_file):
    class Ending(list):
        def __bool__(self):
            # The thread that works comes in between.
            found = len(self) > 0
            self.clear()
            return found

    clock.now += 60
    loop = Progress(4, "fit", clock=clock)
    monkeypatch.setattr(progress, "_OPEN", Ending([loop]))
    Heartbeat("fit", clock=clock).beat()
    assert len(lines(log_file)) <= 1


def test_a_heartbeat_ends_with_its_stage(clock):
    with Heartbeat("report", clock=clock) as beat:
        thread = beat._thread
        assert thread.is_alive() and thread.daemon
    assert not thread.is_alive()
    with Heartbeat("report", enabled=False, clock=clock) as beat:
        assert beat._thread is None


def test_uneven_work_tells_no_time_left_before_a_twentieth_is_done(clock):
    progress = Progress(4, "attack", "images", clock=clock)
    clock.now += 10
    progress.update(1, work=Work(1.0, 99.0))
    clock.now += 10
    progress.update(2, work=Work(2.0, 98.0))
    assert progress.line() == "2/4 images  2 % of the work"
    clock.now += 80
    progress.update(3, work=Work(10.0, 90.0))
    assert progress.line() == "3/4 images  10 % of the work  ETA 15 min 00 s"
