"""Stage `evaluate`: classifies every row's images behind every defence."""

from typing import Any

import numpy as np

from robust_manifold import data, defenses, evaluation
from robust_manifold.runtime import Progress, console
from robust_manifold.stages import physical, substitutes, trained
from robust_manifold.stages.context import Context
from robust_manifold.stages.rounds import compute_rounds, read_rounds, round_paths
from robust_manifold.stages.rows import (
    Row,
    adversarial_folder,
    outcome_folder,
    rows_of,
)


def run(context: Context) -> list[str]:
    """Writes `outcomes/<defence>/...` for each cell, `results.csv` and `views/...`."""
    block = context.experiment.evaluation
    params = trained.load_defence(context)
    cells = [(d, row) for d in block.defences for row in rows_of(d, block)]
    with Progress(len(cells) * context.test.size, "evaluate", "images") as progress:
        done = 0
        for defence, row in cells:
            name = defenses.registry.name_of(defence)

            def advance(images: int, label: str = f"{name} {row.name}") -> None:
                nonlocal done
                done += images
                progress.update(done, cell=label)

            attacked = images_of(context, row)
            compute_rounds(
                context,
                outcome_folder(defence, row),
                lambda place, part, d=defence, x=attacked: _outcomes(
                    context, params, d, x[place], part
                ),
                advance,
            )
    table = evaluation.to_csv(_cell(context, *cell) for cell in cells)
    context.folder.write_text("results.csv", table)
    stored = round_paths(context, [outcome_folder(*cell) for cell in cells])
    views = physical.measure(context, params.classifier)
    return ["results.csv", *substitutes.summarise(context), *views, *stored]


def images_of(context: Context, row: Row) -> np.ndarray:
    """Returns the images of a row, float32 [n, h, w, c] in [0, 1]."""
    if row.attack is None:
        return data.to_float(context.test.images)
    return read_rounds(context, adversarial_folder(row))["images"]


def _outcomes(context: Context, params, defence, images, part: data.Split):
    """Returns what is stored of one round behind one defence."""
    name = defenses.registry.to_string(defence)
    # The same starts for an image in every row: rows differ by their images alone.
    key = context.stream(f"defence {name}")
    defended = defenses.defend(
        defence,
        context.spanner,
        context.classifier.apply,
        params,
        images,
        key=key,
        ids=part.ids,
        batch_size=context.batch_size,
    )
    outcomes = {"labels": part.labels, "logits": np.asarray(defended.logits)}
    if defended.inversion is not None:
        found = defended.inversion._asdict()
        found["projections"] = found.pop("image")
        outcomes |= {field: np.asarray(value) for field, value in found.items()}
    return outcomes


def _cell(context: Context, defence: defenses.Defense, row: Row) -> evaluation.Cell:
    """Returns the line of results.csv for one defence and one row."""
    outcomes = read_rounds(context, outcome_folder(defence, row))
    broken = int(np.sum(np.isnan(outcomes["logits"]).any(axis=-1)))
    if broken:
        console.warning(
            f"{broken} of {len(outcomes['labels'])} images got no finite logits from "
            f"{defenses.registry.to_string(defence)} under {row.name}; they count as "
            "wrong."
        )
    seconds = float(outcomes["seconds"])
    measured: dict[str, Any] = {}
    if row.adversary == substitutes.ADVERSARY:
        measured["label_queries"] = substitutes.queries(context, row.target)
    if row.attack is not None:
        crafted = read_rounds(context, adversarial_folder(row))
        clean = data.to_float(context.test.images)
        norms = evaluation.perturbation_norms(clean, crafted["images"])
        seconds += float(crafted["seconds"])
        measured |= {
            "norm": row.attack.norm,
            "epsilon": getattr(row.attack, "epsilon", None),
            "success": crafted["success"],
            "distances": crafted["distance"],
            "l2": norms.l2,
            "linf": norms.linf,
            "forwards": crafted["forwards"],
            "backwards": crafted["backwards"],
        }
    return evaluation.summarise(
        classifier=trained.model_text(context, "classifier"),
        defence=defenses.registry.to_string(defence),
        adversary=row.adversary,
        attack=row.name,
        labels=outcomes["labels"],
        predictions=evaluation.predictions_of(outcomes["logits"]),
        errors=outcomes.get("error"),
        seconds=seconds,
        confidence=context.experiment.evaluation.confidence,
        **measured,
    )
