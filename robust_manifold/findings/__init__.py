"""What is measured of an experiment: one file, or two, for each finding."""

from collections.abc import Iterable, Mapping, Sequence

from robust_manifold.config import STAGES, Experiment
from robust_manifold.findings import (
    accuracy,
    audit,
    certificates,
    convergence,
    detection,
    diagnostics,
    errors,
    exchange,
    given,
    inference_cost,
    measures,
    on_manifold,
    pairs,
    projections,
    random_keys,
    smoothing,
    stickers,
    substitutes,
    training,
    unions,
    views,
    yields,
)
from robust_manifold.findings.finding import Finding, Passage, Shown, Words
from robust_manifold.findings.recorded import Group, Run

EVERY: list[Finding] = [
    accuracy.FINDING,
    unions.FINDING,
    errors.FINDING,
    random_keys.FINDING,
    yields.FINDING,
    exchange.FINDING,
    certificates.FINDING,
    smoothing.FINDING,
    views.FINDING,
    stickers.FINDING,
    audit.FINDING,
    on_manifold.FINDING,
    pairs.FINDING,
    given.FINDING,
    projections.FINDING,
    detection.FINDING,
    substitutes.FINDING,
    measures.FINDING,
    diagnostics.FINDING,
    convergence.FINDING,
    inference_cost.FINDING,
    training.FINDING,
]
"""All findings, in the order in which reports show them."""


def recorded() -> tuple[str, ...]:
    """Returns the small files that the page of results is made from."""
    return tuple(file for finding in EVERY for file in finding.recorded)


def wanted(experiment: Experiment) -> list[Finding]:
    """Returns the findings that an experiment asks for, in order."""
    return [
        finding
        for finding in EVERY
        if finding.of in ("both", "numbers" if experiment.regression else "classes")
        and _follows(finding, experiment.stages)
        and (finding.wanted is None or finding.wanted(experiment))
    ]


def _follows(finding: Finding, stages: Sequence[str]) -> bool:
    """Returns whether one of the stages of a config leads to a finding."""
    if finding.find is None and not finding.after:
        return True
    return (finding.after or finding.name) in stages


def stages_of(experiment: Experiment) -> tuple[str, ...]:
    """Returns the stages of a run in their order, each before what follows it."""
    return _in_order(experiment.stages, wanted(experiment))


def all_stages() -> tuple[str, ...]:
    """Returns the names of all stages that there are, in their order."""
    return _in_order(STAGES, EVERY)


def _in_order(stages: Sequence[str], following: Sequence[Finding]) -> tuple[str, ...]:
    """Returns stages of a config in their order, with the findings that follow each."""
    return tuple(
        name
        for stage in STAGES
        if stage in stages
        for name in (stage, *(f.name for f in following if f.find and f.after == stage))
    )


def parent_of(stage: str) -> str:
    """Returns the stage of the config that a stage belongs to."""
    return next((f.after for f in EVERY if f.name == stage and f.after), stage)


def adopted(finished: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Returns finished stages with those apart that were part of another once.

    Args:
      finished: the outputs of the finished stages of a run, by stage.
    """
    found = {stage: [*outputs] for stage, outputs in finished.items()}
    for finding in EVERY:
        if finding.after and finding.find and finding.name not in finished:
            outputs = found.get(finding.after, [])
            own = [file for file in outputs if file.startswith(finding.writes)]
            if own:
                found[finding.name] = own
                found[finding.after] = [file for file in outputs if file not in own]
    return found


def needed(finished: Iterable[str]) -> set[str]:
    """Returns the small files that must be there where these stages have finished."""
    names = {*finished}
    if "evaluate" in names and errors.FINDING.name not in names:
        # Older versions computed the accuracies with it.
        names.add(accuracy.FINDING.name)
    return {
        finding.recorded[0]
        for finding in EVERY
        # One that not all runs of its stage ask for may have had nothing to store.
        if finding.recorded and not finding.wanted and finding.name in names
    }


__all__ = [
    "EVERY",
    "Finding",
    "Group",
    "Passage",
    "Run",
    "Shown",
    "Words",
    "adopted",
    "all_stages",
    "needed",
    "parent_of",
    "recorded",
    "stages_of",
    "wanted",
]
