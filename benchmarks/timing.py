"""Times contenders in turn, so that a drift of the machine's speed meets them all."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

# Worker threads of one library wait in a loop for more work; let them fall asleep.
PAUSE = 0.005
# A sample is so many seconds of runs, or one run if that takes longer.
SAMPLE = 0.03


class Contender(NamedTuple):
    """What is timed.

    Attributes:
      run: a function that returns when its work is done.
      work: how often a run does what is compared.
    """

    run: Callable[[], object]
    work: int = 1


class Ratio(NamedTuple):
    """How many times as long one contender takes as another."""

    median: float
    low: float
    high: float

    def __str__(self):
        return f"{self.median:.3g} [{self.low:.3g}, {self.high:.3g}]"


class Times(NamedTuple):
    """Seconds for what is compared: for each contender one number a round."""

    rounds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.rounds[name])

    def fastest(self, *names: str) -> str:
        return min(names, key=self.median)

    def ratio(self, slower: str, faster: str) -> Ratio:
        """The median of the rounds' ratios, with their quartiles."""
        pairs = zip(self.rounds[slower], self.rounds[faster], strict=True)
        ratios = sorted(a / b for a, b in pairs)
        quarter = len(ratios) // 4
        return Ratio(statistics.median(ratios), ratios[quarter], ratios[-1 - quarter])


def compare(contenders: Mapping[str, Contender], rounds: int, budget: float) -> Times:
    """Runs all contenders in every round, after one round that does not count.

    Args:
      contenders: by name.
      rounds: how many rounds, if the budget lasts.
      budget: seconds after which no further round is begun; three are always run.
    """
    runs = {name: _runs(contender) for name, contender in contenders.items()}
    times = {name: [] for name in contenders}
    start = time.perf_counter()
    for number in range(rounds):
        if number >= 3 and time.perf_counter() - start > budget:
            break
        for name, contender in contenders.items():
            time.sleep(PAUSE)
            if runs[name] > 1:
                contender.run()
            times[name].append(_seconds(contender, runs[name]))
    return Times(times)


def _runs(contender):
    contender.run()
    return max(1, round(SAMPLE / (_seconds(contender, 1) * contender.work)))


def _seconds(contender, runs):
    start = time.perf_counter()
    for _ in range(runs):
        contender.run()
    return (time.perf_counter() - start) / (runs * contender.work)
