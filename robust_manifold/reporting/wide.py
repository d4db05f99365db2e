"""Tables that are too wide for a page, turned: their columns become its rows."""

import pandas as pd

from robust_manifold.reporting import Table

_COLUMNS = 6
"""Columns of figures that a page has room for."""


def turned(table: Table) -> Table:
    """Returns a table with its columns as rows, if it is too wide and gets narrower.

    Names of rows become heads; a blank one stands for the one above it.
    """
    names, figures = (
        table.text.iloc[:, : table.names],
        table.text.iloc[:, table.names :],
    )
    if not len(table.text) < len(figures.columns) > _COLUMNS:
        return table
    whole = names.replace("", pd.NA).ffill().fillna("")
    heads = [", ".join(row) for row in whole.to_numpy().tolist()]
    text = figures.T.set_axis(heads, axis="columns").reset_index(names="Defence")
    return table._replace(text=text, names=1)
