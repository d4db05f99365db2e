"""What the report shows of the sanity checks, from audit.json alone."""

from typing import Any

from robust_manifold import attacks
from robust_manifold.evaluation.audits import DEFAULT_ATTACK
from robust_manifold.reporting import (
    Notice,
    Section,
    audit_summary,
    audit_table,
    label_of,
    target_label,
)
from robust_manifold.stages import audit
from robust_manifold.stages.context import Context

_NOTE = (
    "The evaluation looked for signs that its own figures mislead: attacks that fail "
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
    "{default} where there is none."
)


def shown_section(context: Context) -> Section | None:
    """Returns the section of the sanity checks; None for a run without any.

    Flags are shown in full, what passed or was skipped behind a fold.
    """
    checks = _checks(context)
    if checks is None:
        return None
    quiet, flags = _parted(checks)
    return Section(
        _TITLE,
        _NOTE + ("" if flags else _CALM) + _anew(context),
        [audit_summary(checks), *([audit_table(flags)] if flags else [])],
        folded=[audit_table(quiet)] if quiet else [],
        fold="What passed or was skipped",
    )


def notice(context: Context) -> Notice | None:
    """Returns the line that says what is flagged; None where nothing is."""
    checks = _checks(context) or []
    _, flags = _parted(checks)
    if not flags:
        return None
    names = list(dict.fromkeys(str(check["name"]) for check in flags))
    told = ", ".join(names[:_NAMED])
    if len(names) > _NAMED:
        told += f" and {len(names) - _NAMED} more"
    says = "say that figures below mislead"
    if len(flags) == 1:
        says = "says that a figure below misleads"
    return Notice(
        f"{len(flags)} of {len(checks)} sanity checks {says}: {told}.", _TITLE
    )


def _checks(context: Context) -> list[dict[str, Any]] | None:
    """Returns the stored checks, their columns in words; None for a run without any."""
    audits = "audit" in context.experiment.stages
    if not audits or not context.folder.holds(audit.SUMMARY):
        return None
    checks = context.folder.read_json(audit.SUMMARY)
    return [{**check, "column": target_label(check["column"])} for check in checks]


def _parted(
    checks: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the checks that say nothing, and the flags."""
    quiet = [check for check in checks if check["verdict"] in ("PASS", "SKIPPED")]
    return quiet, [check for check in checks if check not in quiet]


def _anew(context: Context) -> str:
    n = context.test.size
    return _ANEW.format(
        images=min(context.experiment.audit.examples or n, n),
        steps=audit.STEPS,
        default=label_of(attacks.registry.to_string(DEFAULT_ATTACK)),
    )
