"""Heads of columns: a defence, and the classifier where there are several."""

from robust_manifold.reporting.columns import (
    ColumnTexts,
    column_heads,
    target_label,
    target_labels,
)

INC = "invert_and_classify(restarts=4)"


def test_one_classifier_is_not_named():
    columns = [ColumnTexts("small_cnn", "none"), ColumnTexts("small_cnn", INC)]
    heads = column_heads([*columns, *columns])
    assert heads == dict(
        zip(columns, ["No defence", "Invert and Classify"], strict=True)
    )


def test_models_and_names_of_classifiers_are_told_apart():
    columns = [ColumnTexts("small_cnn", "none"), ColumnTexts("robust", "none")]
    assert list(column_heads(columns).values()) == [
        *("No defence, Small CNN", "No defence, Robust")
    ]


def test_equal_models_are_told_apart_by_their_settings():
    columns = [
        ColumnTexts("cnn(width=8, depth=2)", INC),
        ColumnTexts("cnn(width=4, depth=2)", INC),
    ]
    assert list(column_heads(columns).values()) == [
        *("Invert and Classify, CNN, width 8", "Invert and Classify, CNN, width 4")
    ]


def test_names_given_are_preferred():
    columns = [ColumnTexts("small_cnn", INC), ColumnTexts("robust", INC)]
    heads = column_heads(columns, {"robust": "Madry", INC: "INC"})
    assert list(heads.values()) == ["INC, Small CNN", "INC, Madry"]


def test_columns_as_a_config_writes_them():
    assert target_labels(["none", INC]) == ["No defence", "Invert and Classify"]
    assert target_labels(["none", f"{INC} on robust"]) == [
        *("No defence", "Invert and Classify, on Robust")
    ]
    assert target_label("none on robust") == "No defence, on Robust"
