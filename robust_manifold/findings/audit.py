"""The sanity checks of the evaluation, column by column."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Array

from robust_manifold import attacks, data, defenses, evaluation
from robust_manifold.attacks.random import outputs_of
from robust_manifold.config import Column
from robust_manifold.core import keys
from robust_manifold.core.criterion import MISCLASSIFIED
from robust_manifold.core.types import Image, Params, PRNGKey
from robust_manifold.evaluation import Check
from robust_manifold.evaluation.audits import (
    DEFAULT_ATTACK,
    binarisation,
    budgets,
    gradients,
    operations,
    projections,
    repetition,
    search,
    strength,
)
from robust_manifold.evaluation.audits.check import skipped
from robust_manifold.evaluation.audits.projecting import projection_of
from robust_manifold.findings.audit_attacks import (
    Attacked,
    active,
    attacked_by,
    stronger,
    view_of,
)
from robust_manifold.findings.audit_rows import (
    Stored,
    checks_of_pairs,
    checks_of_rows,
    stored_rows,
    strongest,
)
from robust_manifold.findings.finding import Finding, Passage, Shown
from robust_manifold.findings.recorded import Group
from robust_manifold.reporting import Notice, Section, Table, label_of, target_label
from robust_manifold.reporting.columns import target_labels
from robust_manifold.runtime import Interrupted, devices
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.defended import predictions_of
from robust_manifold.stages.table.pace import Pace, Part, cost_of_column
from robust_manifold.stages.table.rows import folder_name

SUMMARY = "audit.json"

Tell = Callable[[int, int], None]
"""Called with (checks made, all that are computed anew of a column)."""

STEPS = 20
"""At most, of an attack that is made anew."""
_KEYS = 3
"""Fresh keys that a random defence is asked with."""

_ATTACKING = {strength.STRENGTH, binarisation.ACTIVE}
"""They attack a column as it is attacked in the table; see `audit_attacks`."""

_OF_DEFENDED = (
    *_ATTACKING,
    budgets.ANY_BUDGET,
    *map(
        gradients.of_stage, (gradients.CLASSIFIER, gradients.DEFENDED, gradients.SEEN)
    ),
    gradients.CROSS_ENTROPY,
    gradients.PROBABILITIES,
    operations.OPERATIONS,
    projections.IN_RANGE,
    projections.NOISE_ERROR,
    projections.BASIN,
    projections.TWICE,
    projections.FOUND_AGAIN,
)
"""What is computed anew of a defence that projects: every look costs an inversion, so
that the order of attacks is told by the stored rows alone."""


def find(context: Context) -> list[str]:
    """Writes `audit.json`: a list of checks, each with the column that it is of.

    A column's checks are kept in `audit/<column>.json` as soon as they are made.

    Raises:
      Interrupted: if the run was asked to stop.
    """
    found, files = [], []
    with Pace("audit", "checks", _parts(context)) as pace:
        for column in context.columns:
            file = _file(column)
            count = len(_wanted(context, column))
            if not (stored := context.folder.has(file)):
                tell = functools.partial(_tell, pace, column, count)
                checks = [check._asdict() for check in _checks(context, column, tell)]
                context.folder.write_json(file, checks)
                devices.barrier(f"{file} written")
            found += [
                {"column": column.text} | check
                for check in context.folder.read_json(file)
            ]
            files.append(file)
            pace.advance(column, count, stored, show=("column", column.text))
            if context.stop.requested:
                raise Interrupted(f"stopped after {file}")
    context.folder.write_json(SUMMARY, found)
    return [SUMMARY, *files]


def _parts(context: Context) -> dict[Hashable, Part]:
    """Returns the checks that are computed anew, by column."""
    parts: dict[Hashable, Part] = {}
    for column in context.columns:
        count = len(_wanted(context, column))
        stored = count if context.folder.has(_file(column)) else 0
        parts[column] = Part(count, cost_of_column(context, column), stored)
    return parts


def _file(column: Column) -> str:
    """Returns where the checks of a column are kept."""
    return f"audit/{folder_name(column.text)}.json"


def _tell(pace: Pace, column: Column, count: int, made: int, of: int) -> None:
    """Tells how far the checks of a column are; those that cannot be made take none."""
    pace.within({column: count * made // of}, show=("column", column.text))


def _wanted(context: Context, column: Column) -> set[str]:
    """Returns the names of the checks that are computed anew of a column."""
    left_out = set(context.experiment.audit.left_out)
    if column.bare:
        return set(evaluation.AUDIT_CHECKS) - {*_OF_PROJECTIONS, *left_out}
    return set(_OF_DEFENDED) - left_out


def _checks(context: Context, column: Column, tell: Tell) -> list[Check]:
    """Returns the checks of one column, in the order in which they are told."""
    rows = stored_rows(context, column)
    of_rows = list(checks_of_rows(context, column, rows))
    if rows:
        # One thorough attack is enough: it counts in the worst case over all.
        most = max(rows, key=lambda row: row.forwards)
        cost = search.stated_cost(most.forwards, most.backwards)
        of_rows.append(cost._replace(sentence=f"{most.text}: {cost.sentence}"))
    if column.bare:
        anew = _of_bare(context, column, rows, tell)
    else:
        anew = _of_defended(context, column, rows, tell)
    made = [*anew, *of_rows, *checks_of_pairs(context, column)]
    wanted = _wanted(context, column)
    if strength.STRENGTH in wanted:
        made.append(stronger(context, column))
    if binarisation.ACTIVE in wanted:
        made.append(active(context, column, rows))
    left_out = context.experiment.audit.left_out
    return _merged(
        [
            *(check for check in made if check.name not in left_out),
            *(skipped(name, "config.audit.left_out names it") for name in left_out),
        ]
    )


def _merged(checks: Iterable[Check]) -> list[Check]:
    """Returns one check of each name: a flag first, else the last that was made."""
    kept: dict[str, Check] = {}
    for check in checks:
        before = kept.get(check.name)
        rank = {"FLAG": 2, "PASS": 1, "SKIPPED": 0}
        if before is None or rank[check.verdict] >= rank[before.verdict]:
            kept[check.name] = check
    return sorted(kept.values(), key=lambda c: evaluation.AUDIT_CHECKS.index(c.name))


def _examples(context: Context) -> data.Split:
    """Returns the test images that are looked at."""
    size = context.data.test.size
    return context.data.test.take(slice(context.experiment.audit.examples or size))


def _attack(attacked: Attacked) -> attacks.Attack:
    """Returns what is audited: what the column is attacked by, in fewer steps."""
    attack: Any = attacked.attack
    return dataclasses.replace(attack, steps=min(attack.steps, STEPS))


def _of_bare(
    context: Context, column: Column, rows: list[Stored], tell: Tell
) -> list[Check]:
    """Returns the whole audit of a classifier without a defence."""
    part = _examples(context)
    classifier = context.networks.classifier_of(column.classifier)
    return evaluation.audit(
        classifier.apply,
        trained.load_classifier(context, column.classifier),
        data.to_float(part.images),
        part.labels,
        key=context.stream(f"audit {column.stream_name}"),
        attack=_attack(attacked_by(context, column, rows)),
        batched=classifier.apply,
        checks=_wanted(context, column) - _ATTACKING,
        examples=part.size,
        on_check=tell,
    )


_OF_PROJECTIONS = (
    projections.IN_RANGE,
    projections.NOISE_ERROR,
    projections.ERRORS,
    projections.BASIN,
    projections.TWICE,
    projections.FOUND_AGAIN,
    projections.PAIRS,
    projections.JUDGE,
)


def _of_defended(
    context: Context, column: Column, rows: list[Stored], tell: Tell
) -> list[Check]:
    """Returns what is computed anew of a defended classifier."""
    part, params = _examples(context), trained.load_column(context, column)
    classifier = context.networks.classifier_of(column.classifier)
    networks = context.networks.of_defences
    defended = attacks.Expectation(
        defenses.defended_apply(column.defence, networks, classifier.apply)
    )
    key = context.stream(f"audit {column.stream_name}")
    attacked = attacked_by(context, column, rows)
    images = data.to_float(part.images)
    checks = evaluation.audit(
        defended,
        params,
        images,
        part.labels,
        key=key,
        attack=_attack(attacked),
        criterion=column.defence.criterion,
        view=view_of(context, column, attacked.adversary, classifier.apply),
        undefended=_undefended(context, column, params),
        projection=projection_of(
            column.defence, networks, params.networks, key=key, examples=part.size
        ),
        checks=_wanted(context, column) - _ATTACKING,
        examples=part.size,
        on_check=tell,
    )
    return [*checks, _by_key(column, defended, params, part, rows, key)]


def _undefended(
    context: Context, column: Column, params: defenses.DefenseParams
) -> evaluation.Network | None:
    """Returns the bare classifier of a column, if it answers as the column does."""
    if column.defence.criterion != MISCLASSIFIED:
        return None
    classifier = context.networks.classifier_of(column.classifier)
    return evaluation.Network(_Bare(classifier.apply), params)


def _by_key(
    column: Column,
    defended: attacks.Expectation,
    params: Params,
    part: data.Split,
    rows: list[Stored],
    key: PRNGKey,
) -> Check:
    """Returns whether predictions of clean images, and of the worst row's, vary."""

    def told(logits: np.ndarray, attacked: bool) -> np.ndarray:
        outcomes = {"logits": logits, "labels": part.labels}
        return predictions_of(column, outcomes, attacked=attacked)

    def predicted(shown: np.ndarray, attacked: bool = False) -> np.ndarray:
        streams = [keys.stream(key, f"key {number}") for number in range(_KEYS)]
        looks = (outputs_of(defended, params, shown, key=each) for each in streams)
        return np.stack([told(logits, attacked) for logits in looks])

    images = data.to_float(part.images)
    if not rows:
        return repetition.same_for_all_keys(predicted(images))
    worst, n = strongest(rows), part.size
    fixed = told(worst.logits[:n], True)
    fresh = predicted(worst.images[:n], True)
    return repetition.same_for_all_keys(
        predicted(images), np.concatenate([fixed[None], fresh]), part.labels
    )


@dataclasses.dataclass(frozen=True)
class _Bare:
    """The classifier alone, by the parameters of the whole defence."""

    classify: Any

    def __call__(self, params: defenses.DefenseParams, image: Image) -> Array:
        return self.classify(params.classifier, image)


_NOTE = (
    "The evaluation looked for signs that its own numbers mislead: attacks that fail "
    "for the wrong reason, gradients that vanish, budgets that are not kept."
)
_CALM = " It flagged none."
_TITLE = "Sanity checks"
_NAMED = 4
"""Checks that one line has room to name."""
_ANEW = (
    " What is computed anew looks at the first {images:,} test images; “the attack” is "
    "then, of the attacks with steps and a budget that a column meets, the one that "
    "breaks most, with {steps} steps at most, and "
    "{default} where there is none. A stronger pass and the active test attack the "
    "column as in the table, with all steps."
)


def _show(context: Context) -> Shown:
    """Returns the section of the sanity checks, and the line that leads there.

    Flags are shown in full, what passed or was skipped behind a fold.
    """
    checks = context.folder.read_json(SUMMARY)
    checks = [{**check, "column": target_label(check["column"])} for check in checks]
    quiet, flags = _parted(checks)
    section = Section(
        _TITLE,
        _NOTE + ("" if flags else _CALM) + _anew(context),
        [audit_summary(checks), *([audit_table(flags)] if flags else [])],
        folded=[audit_table(quiet)] if quiet else [],
        fold="What passed or was skipped",
    )
    return Shown(sections=[section], notice=_notice(flags, len(checks)))


def _notice(flags: list[dict[str, Any]], checks: int) -> Notice | None:
    """Returns the line that says what is flagged; None where nothing is."""
    if not flags:
        return None
    names = list(dict.fromkeys(str(check["name"]) for check in flags))
    told = ", ".join(names[:_NAMED])
    if len(names) > _NAMED:
        told += f" and {len(names) - _NAMED} more"
    says = "say that numbers below mislead"
    if len(flags) == 1:
        says = "says that a number below misleads"
    return Notice(f"{len(flags)} of {checks} sanity checks {says}: {told}.", _TITLE)


def _parted(
    checks: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the checks that say nothing, and the flags."""
    quiet = [check for check in checks if check["verdict"] in ("PASS", "SKIPPED")]
    return quiet, [check for check in checks if check not in quiet]


def _anew(context: Context) -> str:
    n = context.data.test.size
    return _ANEW.format(
        images=min(context.experiment.audit.examples or n, n),
        steps=STEPS,
        default=label_of(attacks.registry.to_string(DEFAULT_ATTACK)),
    )


def _results(group: Group) -> Iterator[Passage]:
    """Yields how many checks had which verdict, and the flags in full."""
    checks: list[dict[str, Any]] = []
    for run in group.with_file(SUMMARY):
        seed = f", seed {run.seed}" if len(group.runs) > 1 else ""
        own = run.json(SUMMARY)
        texts = list(dict.fromkeys(check["column"] for check in own))
        names = dict(zip(texts, target_labels(texts), strict=True))
        checks += [{**each, "column": names[each["column"]] + seed} for each in own]
    if not checks:
        return
    flags = [check for check in checks if check["verdict"] == "FLAG"]
    folded = {f"What was flagged ({len(flags)})": [_flagged(flags)]} if flags else {}
    yield Passage("Sanity checks", [audit_summary(checks)], folded)


def _flagged(flags: Sequence[Mapping[str, Any]]) -> Table:
    """Returns the table of flags, of which all have the same verdict."""
    table = audit_table(flags)
    text = table.text.drop(columns="Verdict")
    return table._replace(title="", caption="", text=text, names=len(text.columns))


_ORDER = ("FLAG", "PASS", "SKIPPED")
_CAPTION = (
    "FLAG: a number of this report misleads, "
    "and the sentence says which and why. PASS: the check found nothing. SKIPPED: what "
    "it needs was not there. A report without flags is no proof of robustness."
)


def audit_table(checks: Sequence[Mapping[str, Any]]) -> Table:
    """Returns the table of sanity checks, flagged ones first.

    Args:
      checks: each with a "verdict" (FLAG, PASS or SKIPPED), a "name", the "value" that
        the verdict rests on, a "sentence" for the reader and, where it was made of
        one column of the table, its "column".
    """
    ranked = sorted(checks, key=lambda check: _rank(str(check["verdict"])))
    heads = {
        "Verdict": [check["verdict"] for check in ranked],
        "Check": [_capital(str(check["name"])) for check in ranked],
        "Of": [check.get("column") or "" for check in ranked],
        "What was seen": [check["sentence"] for check in ranked],
    }
    if not any(heads["Of"]):
        del heads["Of"]
    numbers = ("verdict", "name", "column", "value")
    flagged = any(check["verdict"] == "FLAG" for check in checks)
    return Table(
        "What was flagged" if flagged else "What was not flagged",
        f"{_CAPTION} This table: {_told(checks)}.",
        pd.DataFrame(heads),
        pd.DataFrame(
            [[check.get(name) for name in numbers] for check in ranked],
            columns=list(numbers),
        ),
        names=len(heads),
        prose=True,
    )


def audit_summary(checks: Sequence[Mapping[str, Any]]) -> Table:
    """Returns how many checks of each column had which verdict.

    Args:
      checks: as for `audit_table`.
    """
    columns = list(dict.fromkeys(check.get("column") or "" for check in checks))
    rows = [
        [column, *(_count(checks, verdict, column) for verdict in _ORDER)]
        for column in columns
    ]
    frame = pd.DataFrame(rows, columns=["Of", *_ORDER])
    caption = f"{_CAPTION} Numbers of checks."
    return Table("Checks by verdict", caption, frame.astype(str), frame)


def _told(checks: Sequence[Mapping[str, Any]]) -> str:
    counts = {v: sum(c["verdict"] == v for c in checks) for v in _ORDER}
    told = (f"{count} {verdict}" for verdict, count in counts.items() if count)
    return ", ".join(told) or "no checks"


def _count(checks: Sequence[Mapping[str, Any]], verdict: str, column: str) -> int:
    own = [check for check in checks if (check.get("column") or "") == column]
    return sum(check["verdict"] == verdict for check in own)


def _rank(verdict: str) -> int:
    """Returns the place of a verdict; one not known here comes first."""
    return _ORDER.index(verdict) if verdict in _ORDER else -1


def _capital(text: str) -> str:
    words = text.replace("_", " ")
    return words[:1].upper() + words[1:]


FINDING = Finding(
    name="audit",
    find=find,
    writes=(SUMMARY, "audit/"),
    recorded=(SUMMARY,),
    show=_show,
    results=_results,
)
