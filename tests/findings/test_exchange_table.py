"""What columns lend each other: the table, and the page that is made of records."""

from robust_manifold.findings.exchange import exchange_table

LINES = [
    {
        "column": "none",
        "norm": "linf",
        "epsilon": 0.2,
        "n": 1000,
        "before": 40,
        "after": 37,
        "by": {"images of Bit Depth": 1, "unrolled, 50 steps from the worst so far": 2},
    },
    {
        "column": "bit_depth",
        "norm": "linf",
        "epsilon": 0.2,
        "n": 1000,
        "before": 50,
        "after": 50,
        "by": {},
    },
]


def test_what_is_left_before_and_after_stands_beside_who_did_it():
    # The page of results hands every table its confidence.
    table = exchange_table(LINES, confidence=0.9)
    assert table.text.to_numpy().tolist() == [
        [
            "No defence",
            "ℓ∞ ε=0.2",
            "40 of 1,000",
            "37",
            "unrolled, 50 steps from the worst so far (2); images of Bit Depth (1)",
        ],
        ["Bit Depth", "ℓ∞ ε=0.2", "50 of 1,000", "50", "–"],
    ]
    assert "No other table counts it" in table.caption
