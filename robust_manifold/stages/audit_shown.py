"""What the report shows of the sanity checks, from audit.json alone."""

from robust_manifold import attacks
from robust_manifold.evaluation.audits import DEFAULT_ATTACK
from robust_manifold.reporting import (
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
    if "audit" not in context.experiment.stages or not context.folder.holds(
        audit.SUMMARY
    ):
        return None
    checks = context.folder.read_json(audit.SUMMARY)
    checks = [{**check, "column": target_label(check["column"])} for check in checks]
    quiet = [check for check in checks if check["verdict"] in ("PASS", "SKIPPED")]
    flags = [check for check in checks if check not in quiet]
    return Section(
        "Sanity checks",
        _NOTE + ("" if flags else _CALM) + _anew(context),
        [audit_summary(checks), *([audit_table(flags)] if flags else [])],
        folded=[audit_table(quiet)] if quiet else [],
    )


def _anew(context: Context) -> str:
    n = context.test.size
    return _ANEW.format(
        images=min(context.experiment.audit.examples or n, n),
        steps=audit.STEPS,
        default=label_of(attacks.registry.to_string(DEFAULT_ATTACK)),
    )
