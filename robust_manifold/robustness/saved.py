"""An evaluation in a folder: a page, images to the last bit, and figures as text."""

import os
from pathlib import Path
from typing import Any

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import Check
from robust_manifold.reporting import to_csv, to_png
from robust_manifold.robustness import stored
from robust_manifold.robustness.page import figures_table, page, plotted
from robust_manifold.robustness.record import Record
from robust_manifold.runtime.artefacts import Artefacts

_TEXTS, _ARRAYS = "evaluation.json", "evaluation.npz"


def save(evaluation: Record, folder: str | os.PathLike[str]) -> None:
    """Writes an evaluation; see `Evaluation.save`."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        files = Artefacts(path)
        files.write_npz(
            _ARRAYS,
            stored.arrays_of(evaluation.budgets)
            | {
                "clean_images": evaluation.clean_images,
                "labels": evaluation.labels,
                "clean": evaluation.clean,
            },
        )
        files.write_json(
            _TEXTS,
            {
                "name": evaluation.name,
                "effort": evaluation.effort,
                "seconds": evaluation.seconds,
                "notes": evaluation.notes,
                "audit": [check._asdict() for check in evaluation.audit],
                "lines": [line._asdict() for line in evaluation.lines],
            },
        )
        files.write_text("lines.csv", to_csv(figures_table(evaluation)))
        files.write_bytes("plot.png", to_png(plotted((evaluation,))))
        files.write_text("report.html", page(evaluation))
    except OSError as error:
        raise UsageError(
            f"folder is {str(folder)!r}, which cannot be written ({error.strerror}); "
            "allowed: a folder that can be."
        ) from None


def load(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the fields of what `save` wrote; see `Evaluation.load`."""
    path = Path(folder)
    if not (path / _TEXTS).is_file():
        raise UsageError(
            f"folder is {str(folder)!r}, which holds no {_TEXTS}; allowed: one that "
            "Evaluation.save has written."
        )
    files = Artefacts(path)
    texts: dict[str, Any] = files.read_json(_TEXTS)
    arrays = files.read_npz(_ARRAYS)
    return dict(
        name=texts["name"],
        clean_images=arrays["clean_images"],
        labels=arrays["labels"],
        clean=arrays["clean"],
        budgets=stored.budgets_from(arrays),
        audit=tuple(Check(**each) for each in texts["audit"]),
        notes=tuple(texts["notes"]),
        effort=texts["effort"],
        seconds=texts["seconds"],
    )
