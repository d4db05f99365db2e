"""The tables of the sanity checks that an evaluation runs on itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from robust_manifold.reporting.tables import Table

_ORDER = ("FLAG", "PASS", "SKIPPED")
_CAPTION = (
    "FLAG: a figure of this report misleads, "
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
