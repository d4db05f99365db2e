"""What the report shows of the sanity checks, from audit.json alone."""

from robust_manifold.reporting import Section, audit_summary, audit_table, target_label
from robust_manifold.stages.context import Context

FILE = "audit.json"

_NOTE = (
    "The evaluation looked for signs that its own figures mislead: attacks that fail "
    "for the wrong reason, gradients that vanish, budgets that are not kept."
)
_CALM = " It flagged none."


def shown_section(context: Context) -> Section | None:
    """Returns the section of the sanity checks; None for a run without any.

    Flags are shown in full, what passed or was skipped behind a fold.
    """
    if "audit" not in context.experiment.stages or not context.folder.has(FILE):
        return None
    checks = context.folder.read_json(FILE)
    checks = [{**check, "column": target_label(check["column"])} for check in checks]
    quiet = [check for check in checks if check["verdict"] in ("PASS", "SKIPPED")]
    flags = [check for check in checks if check not in quiet]
    return Section(
        "Sanity checks",
        _NOTE + ("" if flags else _CALM),
        [audit_summary(checks), *([audit_table(flags)] if flags else [])],
        folded=[audit_table(quiet)] if quiet else [],
    )
