"""How the runs of a group came about: data, networks, hardware, versions, times."""

from collections.abc import Callable, Iterable

import pandas as pd

from robust_manifold.evaluation import read_errors, read_results
from robust_manifold.findings import Group, Run, all_stages
from robust_manifold.reporting import Table
from robust_manifold.reporting.tables import MISSING
from robust_manifold.results.origins import blocks_of, told_otherwise
from robust_manifold.runtime import provenance
from robust_manifold.runtime.progress import duration


def facts_table(group: Group) -> Table:
    """Returns what a reader must know of the runs to judge their figures."""
    told = {
        "Seeds": _listed(map(str, group.seeds)),
        "Test images (n)": _common(group, _images),
        "Intervals": group.interval if group.with_file("results.csv") else "",
        "Data": _common(group, _data),
        "Networks taken over": _common(group, _taken),
        "Hardware": _common(group, _hardware),
        "Versions": _common(group, _versions),
    }
    rows = [[name, text] for name, text in told.items() if text]
    frame = pd.DataFrame(rows, columns=["Setting", "Value"])
    return Table("", "", frame, frame, names=2)


def times_table(group: Group) -> Table:
    """Returns the wall time of each stage, by seed."""
    spent = [run.status["stage_seconds"] for run in group.runs]
    stages = [stage for stage in all_stages() if any(stage in each for each in spent)]
    rows = [[name, *(_time(each.get(name)) for each in spent)] for name in stages]
    rows.append(["all", *(_time(sum(each.values())) for each in spent)])
    heads = ["Stage", *(f"Seed {seed}" for seed in group.seeds)]
    frame = pd.DataFrame(rows, columns=heads)
    caption = "Wall time, of all parts of a stage that was stopped and resumed."
    return Table("", caption, frame, frame)


def ends_of(group: Group) -> str:
    """Returns what the intervals are that published figures are compared with.

    A figure that lies between seeds no farther apart than chance is none of another
    size, and neither is one just beside them.
    """
    if len(group.runs) > 1:
        ends = f"ends of their {group.wilson}s"
        return f"mean over the seeds [least, greatest of the {ends}]"
    return group.wilson


def _common(group: Group, of: Callable[[Run], str]) -> str:
    """Returns a fact once if all seeds share it, else with the seeds it is true of."""
    told: dict[str, list[str]] = {}
    for run in group.runs:
        told.setdefault(of(run), []).append(str(run.seed))
    if len(told) == 1:
        return next(iter(told))
    parts = (f"{text or 'none'} (seed {_listed(s)})" for text, s in told.items())
    return "; ".join(parts)


def _images(run: Run) -> str:
    for file, read in (("results.csv", read_results), ("errors.csv", read_errors)):
        if file in run.files:
            results = run.lines(file, read)
            break
    else:
        return ""
    return _listed(f"{n:,}" for n in sorted(set(results["n"])))


def _data(run: Run) -> str:
    """Returns the source, the sizes of its splits, and which test images they were."""
    splits = run.json("data.json")
    if not splits:
        return ""
    sizes = _listed(f"{split['examples']:,} {name}" for name, split in splits.items())
    digest = splits["test"]["sha256"][:12]
    return f"{run.config['data']['source']}: {sizes} images (test: SHA-256 {digest}…)"


def _taken(run: Run) -> str:
    """Returns which networks are of other runs, of files, or published."""
    keys = ("from_run", "weights")
    keys += ("published",) if run.config.get("pretrained") else ()
    networks = {**run.config.get("networks", {}), **blocks_of(run.config)}
    return _listed(
        f"{name} of {block[key]}{_otherwise(run, name)}"
        for name, block in networks.items()
        for key in keys
        if block.get(key)
    )


def _otherwise(run: Run, name: str) -> str:
    """Returns what of a network's training its own run has otherwise, in brackets."""
    if name not in run.origins:
        return ""
    keys = told_otherwise(blocks_of(run.config)[name], run.origins[name])
    return f" (trained with another {' and '.join(keys)})" if keys else ""


def _hardware(run: Run) -> str:
    return provenance.told(run.computed, provenance.device_text)


def _versions(run: Run) -> str:
    return provenance.told(run.computed, provenance.versions_text)


def _time(seconds: float | None) -> str:
    return MISSING if seconds is None else duration(seconds)


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(texts)
