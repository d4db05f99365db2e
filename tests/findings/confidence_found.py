"""A finding as a user writes one: how sure each column is of the clean images."""

import numpy as np
import pandas as pd

from robust_manifold.findings import Finding, Passage, Shown
from robust_manifold.reporting import Table
from robust_manifold.stages.table.rounds import read_rounds
from robust_manifold.stages.table.rows import outcome_folder, rows_of

SUMMARY = "surest.json"


def find(context):
    lines = []
    for column in context.columns:
        clean = rows_of(column, context.experiment.evaluation)[0]
        logits = read_rounds(context, outcome_folder(column, clean))["logits"]
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        surest = shares.max(axis=-1) / shares.sum(axis=-1)
        lines.append({"column": column.text, "mean": float(surest.mean())})
    context.folder.write_json(SUMMARY, lines)
    return [SUMMARY]


def table_of(lines, *, confidence=0.95):
    frame = pd.DataFrame(lines)
    caption = "Mean probability of the predicted class, on clean images."
    text = frame.assign(mean=[f"{line['mean']:.3f}" for line in lines])
    return Table("How sure the classifiers are", caption, text, frame)


FINDING = Finding(
    name="surest",
    after="evaluate",
    find=find,
    writes=(SUMMARY,),
    recorded=(SUMMARY,),
    show=lambda context: Shown([table_of(context.folder.read_json(SUMMARY))]),
    results=lambda group: [
        Passage("Certainty", [*group.tables_by_seed(SUMMARY, table_of)])
    ],
)
