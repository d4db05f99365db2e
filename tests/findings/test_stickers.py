"""Stickers on a road sign: what a run stores and shows, and what it refuses."""

import numpy as np
import pytest

from robust_manifold.config import default_config, validate
from robust_manifold.core.errors import UsageError
from robust_manifold.data import road_signs
from robust_manifold.data.sources import parse
from robust_manifold.findings import stickers
from robust_manifold.runtime import json_text

SOURCE = "road_signs(train=20, validation=10, test=10, size=16)"
PATCH = (
    "patch(mask=square(size=0.3), steps=2, samples=1, evaluation_samples=1, "
    "transformations=transformations(scale=0.2, outline='octagon'))"
)
CONFIG = f"""
from robust_manifold.config import default_config

def get_config():
    config = default_config()
    config.stages = ("fit_classifier", "evaluate", "report")
    config.data.source = "{SOURCE}"
    config.data.validation_examples = 0
    config.classifier.model = "linear"
    config.classifier.duration = "5 steps"
    config.classifier.batch_size = 10
    config.evaluation.attacks = ()
    config.evaluation.examples = 10
    config.evaluation.validation_examples = 0
    config.evaluation.defences = ("none", "bit_depth(bits=2)")
    config.stickers.sign = "stop"
    config.stickers.target = "limit 80"
    config.stickers.attacks = ("{PATCH}",)
    config.stickers.adversaries = ("oblivious", "straight_through")
    config.stickers.views = 7
    return config
"""
LINE = {
    "sticker": "",
    "mask": "",
    "adversary": "none",
    "made_against": "",
    "column": "none",
    "sign": "stop",
    "target": "limit 80",
    "views": 200,
    "fooled": 10,
    "hit": 0,
}
BARS = {"sticker": "patch(mask=stickers)", "mask": "stickers"}
LINES = [
    LINE,
    LINE | {"column": "invert_and_classify", "fooled": 20},
    LINE | BARS | {"adversary": "grey", "fooled": 12},
    LINE | BARS | {"adversary": "grey", "column": "invert_and_classify"},
    LINE
    | BARS
    | {"adversary": "oblivious", "made_against": "none", "fooled": 150, "hit": 100},
    LINE
    | BARS
    | {
        "adversary": "oblivious",
        "made_against": "none",
        "column": "invert_and_classify",
        "hit": 40,
    },
]


def test_the_table_has_a_row_a_sticker_and_an_interval_a_column():
    table = stickers.stickers_table(LINES)
    assert [*table.text["Sticker"]] == ["None", "Stickers", "Stickers"]
    assert [*table.text["Made for"]] == ["–", "Grey", "No defence"]
    fooled = [*table.text["No defence: fooled"]]
    # Wilson's interval of 150 of 200, by his formula.
    assert fooled[2] == "75.0 % [68.6, 80.5]" and fooled[0].startswith("5.0 % [")
    assert [*table.text["No defence: limit 80"]] == ["0.0 %", "0.0 %", "50.0 %"]
    assert table.text["Invert and Classify: limit 80"][2] == "20.0 %"
    assert "200 views" in table.caption and "'limit 80'" in table.caption
    assert len(table.numbers) == len(LINES)


def test_an_untargeted_search_has_no_column_of_the_target():
    lines = [line | {"target": "", "hit": None} for line in LINES]
    table = stickers.stickers_table(lines)
    assert [*table.text][2:] == ["No defence: fooled", "Invert and Classify: fooled"]
    assert "wants" not in table.caption


def test_stickers_of_one_mask_are_told_by_their_whole_text():
    other = LINES[-1] | {"sticker": "patch(mask=stickers, steps=7)"}
    labels = [
        stickers.sticker_label([*LINES, other], line) for line in (LINES[2], other)
    ]
    assert len(set(labels)) == 2 and "7 steps" in labels[1]


def test_a_run_stores_and_shows_stickers_and_one_that_stopped_goes_on(
    program, tmp_path, monkeypatch
):
    config, run = tmp_path / "signs.py", tmp_path / "run"
    config.write_text(CONFIG)
    command = [f"--config={config}", f"--workdir={run}"]
    made, asked = stickers._made, []

    def killed(context, sticker):
        asked.append(sticker)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return made(context, sticker)

    monkeypatch.setattr(stickers, "_made", killed)
    with pytest.raises(KeyboardInterrupt):
        program(*command)
    ended = program(*command)
    assert ended.code == 0, ended.error
    # None, grey, oblivious and straight-through: the third was asked for twice.
    assert len(asked) == 5 and asked[2] == asked[3]
    assert [each.adversary for each in dict.fromkeys(asked)] == [
        *("none", "grey", "oblivious", "straight_through")
    ]

    lines = json_text.loads((run / "stickers.json").read_bytes())
    assert len(lines) == 4 * 2 and {line["views"] for line in lines} == {7}
    face, source = road_signs.face("stop", 16), parse(SOURCE)
    for sticker in dict.fromkeys(asked):
        folder = run / sticker.folder
        stored = np.load(folder / "sticker.npz")
        changed = np.abs(stored["image"] - face.image / 255).max(-1) > 1e-6
        assert not (changed & ~stored["mask"]).any()
        assert changed.any() == (sticker.adversary != "none")
        printed = np.rint(255 * stored["image"]).astype(np.uint8)
        views = source.views("stop", 7, sticker=printed, mask=stored["mask"])
        for line, column in zip(
            [each for each in lines if each["adversary"] == sticker.adversary],
            ("none", "bit_depth-bits=2"),
            strict=True,
        ):
            outcome = np.load(folder / f"on-{column}.npz")
            np.testing.assert_allclose(
                255 * outcome["images"][1:], views[:5], atol=1e-3
            )
            told = outcome["logits"][1:].argmax(-1)
            assert line["fooled"] == (told != 0).sum()
            assert line["hit"] == (told == road_signs.CLASSES.index("limit 80")).sum()
    assert (run / "report/figures/stickers.png").stat().st_size > 1000
    assert "Stickers on the sign" in (run / "report/report.html").read_text()


def config_of(**changes):
    config = default_config()
    config.data.source = SOURCE
    config.data.validation_examples = 0
    config.stickers.sign = "stop"
    config.stickers.attacks = (PATCH,)
    config.update_from_flattened_dict(changes)
    return config


def test_the_default_sticker_lies_on_a_stop_sign():
    config = default_config()
    config.data.source = "road_signs"
    config.data.validation_examples = 0
    config.stickers.sign = "stop"
    (patch,) = validate(config).stickers.attacks
    assert patch.transformations.tilt and patch.transformations.outline == "octagon"


def test_only_a_config_with_a_sign_asks():
    assert stickers.FINDING.wanted(validate(config_of()))
    assert not stickers.FINDING.wanted(validate(default_config()))


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"stickers.sign": "halt"}, "sign: Unknown road sign 'halt'"),
        ({"stickers.target": "limit 90"}, "target: Unknown road sign 'limit 90'"),
        ({"stickers.target": "stop"}, "target is 'stop'; allowed: another sign"),
        (
            {"stickers.sign": "", "stickers.target": "stop"},
            "allowed: empty where `sign`",
        ),
        ({"stickers.views": 0}, "views is 0; allowed: 1 or more"),
        ({"stickers.attacks": ()}, "allowed: one or more"),
        ({"stickers.attacks": (PATCH, PATCH)}, "allowed: no entry twice"),
        ({"stickers.attacks": ("fgsm(epsilon=0.1)",)}, "attacks of the kind patch"),
        ({"stickers.adversaries": ("latent",)}, "allowed: oblivious, straight_through"),
        ({"data.source": "mnist_5k"}, "allowed where data.source is 'mnist_5k'"),
        ({"data.image_size": 16}, "cut or resized: empty"),
        (
            {"stickers.attacks": ("patch(mask=square(size=0.9))",)},
            "pixels beside the sign 'stop'; allowed: pixels on it",
        ),
        (
            {"stickers.attacks": ("patch(mask=square(size=0.3), positions=2)",)},
            "allowed: positions=1",
        ),
        (
            {"evaluation.defences": ("rejecting(defence='invert_and_classify')",)},
            "which may reject: empty",
        ),
        (
            {
                "evaluation.defences": ("bit_depth(bits=2)",),
                "stickers.adversaries": ("implicit",),
            },
            "allowed with the adversary 'implicit'",
        ),
    ],
)
def test_a_mistake_is_one_sentence(changes, says):
    with pytest.raises(UsageError) as error:
        validate(config_of(**changes))
    assert says in str(error.value) and "\n" not in str(error.value)
