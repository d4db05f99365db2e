"""Stickers on a road sign: how many views of the sign they fool, by column.

A sticker is found on the sign's face, in front of what `transformations` draw.  It is
then printed on the face, and the data source itself shows it in views that the search
has never seen, with another perspective, light, blur and background each.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robust_manifold import attacks, data, defenses, evaluation
from robust_manifold.attacks.masks import Mask
from robust_manifold.config import Column, Experiment
from robust_manifold.data.sources import RoadSigns, parse
from robust_manifold.findings import columns
from robust_manifold.findings.finding import Finding, Passage, Shown
from robust_manifold.findings.recorded import Group
from robust_manifold.reporting import ReportFigure, Table, figures
from robust_manifold.reporting.columns import target_labels
from robust_manifold.reporting.labels import adversary_label, label_of
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.defended import defend
from robust_manifold.stages.table.pace import Pace, Part
from robust_manifold.stages.table.rows import OBLIVIOUS, folder_name, kind_of

SUMMARY = "stickers.json"
SHOWN = 5
"""Views of each sticker in the figure."""
BARE, GREY = "none", "grey"
"""In place of an adversary: no sticker at all, and one without any pattern."""


class _Sticker(NamedTuple):
    """What is put on the sign."""

    attack: attacks.Patch | None
    """None: nothing."""
    adversary: str
    """As a config writes it, or `BARE` or `GREY`."""
    target: Column | None = None
    """What it was made against."""

    @property
    def folder(self) -> str:
        """Where its files lie."""
        names = [self.adversary]
        if self.attack is not None:
            names = [attacks.registry.to_string(self.attack), self.adversary]
        if self.target is not None:
            names.append(self.target.text)
        return "/".join(["stickers", *map(folder_name, names)])

    @property
    def stream_name(self) -> str:
        """What the search's random stream is named by; see `Registry.stream_name`."""
        assert self.attack is not None and self.target is not None
        registry = defenses.adversaries
        names = [
            attacks.registry.stream_name(self.attack),
            registry.stream_name(registry.build(self.adversary)),
            self.target.stream_name,
        ]
        return "/".join(["stickers", *map(folder_name, names)])


def find(context: Context) -> list[str]:
    """Writes `stickers/...`: each sticker, what columns make of it; and a summary."""
    every = _stickers(context.experiment)
    views = context.experiment.stickers.views
    parts = {
        sticker: Part(
            views * len(context.columns),
            stored=views
            * sum(map(context.folder.has, _outcome_files(context, sticker))),
        )
        for sticker in every
    }
    with Pace("stickers", "views", parts) as pace:
        for sticker in every:
            if not context.folder.has(_file(sticker)):
                context.folder.write_npz(_file(sticker), _made(context, sticker))
            seen = None
            for column, file in zip(
                context.columns, _outcome_files(context, sticker), strict=True
            ):
                stored = context.folder.has(file)
                if not stored:
                    seen = _seen(context, sticker) if seen is None else seen
                    context.folder.write_npz(file, _outcome(context, column, seen))
                pace.advance(sticker, views, stored)
    context.folder.write_json(SUMMARY, _lines(context))
    files = [file for each in every for file in _outcome_files(context, each)]
    return [SUMMARY, *map(_file, every), *files]


def _stickers(experiment: Experiment) -> list[_Sticker]:
    """Returns all stickers, nothing first, then those of each attack in turn."""
    block = experiment.evaluation
    found = [_Sticker(None, BARE)]
    for attack in experiment.stickers.attacks:
        assert isinstance(attack, attacks.Patch)
        found.append(_Sticker(attack, GREY))
        for adversary in experiment.stickers.adversaries:
            for column in block.columns:
                bare = Column(defenses.NoDefense(), column.classifier)
                knows = kind_of(adversary) != OBLIVIOUS
                # An adversary that knows no defence has nothing more to know there.
                if not (knows and column == bare):
                    found.append(_Sticker(attack, adversary, column if knows else bare))
    return list(dict.fromkeys(found))


def _texts(attack: attacks.Patch | None) -> dict[str, str]:
    """Returns the attack and its mask as a config writes them; empty without one."""
    if attack is None:
        return {"sticker": "", "mask": ""}
    assert isinstance(attack.mask, Mask)
    return {
        "sticker": attacks.registry.to_string(attack),
        "mask": attacks.masks_registry.to_string(attack.mask),
    }


def _file(sticker: _Sticker) -> str:
    return f"{sticker.folder}/sticker.npz"


def _outcome_files(context: Context, sticker: _Sticker) -> list[str]:
    """Returns where the outcome of each column lies."""
    return [
        f"{sticker.folder}/on-{columns.file_of(column)}.npz"
        for column in context.columns
    ]


def _source(context: Context) -> RoadSigns:
    source = parse(context.experiment.data.source)
    assert isinstance(source, RoadSigns)
    return source


def _label(context: Context, name: str) -> int:
    return data.road_signs.CLASSES.index(name)


def _made(context: Context, sticker: _Sticker) -> dict[str, np.ndarray]:
    """Returns the face with the sticker on it, and where the sticker lies."""
    block = context.experiment.stickers
    face = data.road_signs.face(block.sign, _source(context).size)
    image = data.to_float(face.image)
    height, width, _ = image.shape
    if sticker.attack is None:
        return {"image": image, "mask": np.zeros((height, width), bool)}
    mask = sticker.attack.covered(height, width)
    if sticker.target is None:
        return {
            "image": np.where(mask[..., None], np.float32(0.5), image),
            "mask": mask,
        }
    column, spec = sticker.target, defenses.adversaries.build(sticker.adversary)
    apply = context.networks.classifier_of(column.classifier).apply
    networks = context.networks.of_defences
    view = spec.view(column.defence, networks, apply)
    assert view is not None
    wanted: dict[str, Any] = {}
    if block.target:
        wanted["targets"] = np.array([_label(context, block.target)])
    crafted = attacks.craft(
        sticker.attack,
        attacks.Expectation(defenses.defended_apply(column.defence, networks, apply)),
        trained.load_column(context, column),
        image[None],
        np.array([_label(context, block.sign)]),
        view=attacks.Expectation(view, getattr(spec, "samples", 1)),
        key=context.stream(sticker.stream_name),
        **wanted,
    )
    return {"image": np.asarray(crafted.images[0]), "mask": mask}


def _seen(context: Context, sticker: _Sticker) -> np.ndarray:
    """Returns the face and then its views, [1 + views, height, width, 3]."""
    block = context.experiment.stickers
    made = context.folder.read_npz(_file(sticker))
    printed = np.rint(255 * made["image"]).astype(np.uint8)
    views = _source(context).views(
        block.sign, block.views, sticker=printed, mask=made["mask"]
    )
    return data.to_float(np.concatenate([printed[None], views]))


def _outcome(
    context: Context, column: Column, images: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns what a column makes of a face and its views."""
    params = trained.load_column(context, column)
    made = defend(context, column, params, images, np.arange(len(images)))
    outcome = {"logits": np.asarray(made.output)}
    outcome["images"] = images[: 1 + SHOWN]
    if made.purified is not None:
        outcome["purified"] = np.asarray(made.purified[: 1 + SHOWN])
    return outcome


def _lines(context: Context) -> list[dict[str, Any]]:
    """Returns what stickers.json holds: a line for each sticker and column."""
    block = context.experiment.stickers
    lines = []
    for sticker in _stickers(context.experiment):
        for column, file in zip(
            context.columns, _outcome_files(context, sticker), strict=True
        ):
            logits = context.folder.read_npz(file)["logits"][1:]
            told = evaluation.predictions_of(logits)
            hit = told == _label(context, block.target) if block.target else None
            lines.append(
                {
                    **_texts(sticker.attack),
                    "adversary": sticker.adversary,
                    "made_against": sticker.target.text if sticker.target else "",
                    "column": column.text,
                    "sign": block.sign,
                    "target": block.target,
                    "views": len(told),
                    "fooled": int(np.sum(told != _label(context, block.sign))),
                    "hit": None if hit is None else int(np.sum(hit)),
                }
            )
    return lines


def stickers_table(
    lines: Sequence[Mapping[str, Any]], *, confidence: float = 0.95
) -> Table:
    """Returns the shares of views that each sticker fools, in each column.

    Args:
      lines: what stickers.json holds: each with its "sticker" and "mask" (empty:
        none), "adversary", "made_against" (empty: nothing), "column", "sign" and
        "target" (empty: any other), and the numbers "views", "fooled" and "hit".
      confidence: coverage of the intervals.
    """
    first = lines[0]
    texts = list(dict.fromkeys(line["column"] for line in lines))
    names = dict(zip(texts, target_labels(texts), strict=True))
    rows: dict[tuple, dict[str, str]] = {}
    for line in lines:
        row = rows.setdefault(
            (line["sticker"], line["adversary"], line["made_against"]),
            {"Sticker": sticker_label(lines, line), "Made for": _made_for(lines, line)},
        )
        head = names[line["column"]]
        row[f"{head}: fooled"] = _share(line["fooled"], line["views"], confidence)
        if line["target"]:
            row[f"{head}: {line['target']}"] = (
                f"{100 * line['hit'] / line['views']:.1f} %"
            )
    target = (
        f" The search wants {first['target']!r}, whose share stands beside."
        if first["target"]
        else ""
    )
    caption = (
        f"Share of {first['views']:,} views of the sign {first['sign']!r} that are "
        f"taken for another one, with the {100 * confidence:g} % Wilson interval."
        f"{target} Every row has the same views, drawn by the data source and never "
        "seen by the search. Grey: the same area without a pattern. Made for: the "
        "column that the search attacks and, where it knows the defence, what it "
        "differentiates."
    )
    text = pd.DataFrame(list(rows.values()))
    numbers = pd.DataFrame(list(lines))
    return Table(
        f"Stickers on the sign {first['sign']!r}", caption, text, numbers, names=2
    )


def _share(count: int, n: int, confidence: float) -> str:
    low, high = evaluation.wilson_interval(count, n, confidence)
    return f"{100 * count / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def sticker_label(lines: Sequence[Mapping[str, Any]], line: Mapping[str, Any]) -> str:
    """Returns what a sticker is called: by its mask, where the masks differ."""
    if not line["sticker"]:
        return "None"
    stickers = {each["sticker"] for each in lines if each["mask"] == line["mask"]}
    return label_of(line["mask"] if len(stickers) == 1 else line["sticker"])


def _made_for(lines: Sequence[Mapping[str, Any]], line: Mapping[str, Any]) -> str:
    """Returns what a sticker was made with and against."""
    if not line["made_against"]:
        return "–" if line["adversary"] == BARE else "Grey"
    against = list(dict.fromkeys(each["made_against"] for each in lines))
    against = [each for each in against if each]
    name = dict(zip(against, target_labels(against), strict=True))[line["made_against"]]
    if kind_of(line["adversary"]) == OBLIVIOUS:
        return name
    return f"{name}, {adversary_label(line['adversary']).lower()}"


def _show(context: Context) -> Shown:
    """Returns the table, and a sheet of the sign with each sticker in some views."""
    lines = context.folder.read_json(SUMMARY)
    confidence = context.experiment.evaluation.confidence
    table = stickers_table(lines, confidence=confidence)
    return Shown([table], figures=[("stickers", _sheet(context, lines))])


def _sheet(context: Context, lines: Sequence[Mapping[str, Any]]) -> ReportFigure:
    """Returns the figure: a group a sticker, a row a column."""
    block = context.experiment.stickers
    label = _label(context, block.sign)
    groups = []
    names = dict(
        zip(
            [column.text for column in context.columns],
            target_labels([column.text for column in context.columns]),
            strict=True,
        )
    )
    told = {
        (line["sticker"], line["adversary"], line["made_against"]): line
        for line in lines
    }
    for sticker in _stickers(context.experiment):
        if sticker.adversary == GREY:
            continue
        line = told[
            attacks.registry.to_string(sticker.attack) if sticker.attack else "",
            sticker.adversary,
            sticker.target.text if sticker.target else "",
        ]
        rows = []
        for column, file in zip(
            context.columns, _outcome_files(context, sticker), strict=True
        ):
            found = context.folder.read_npz(file)
            shown = found.get("purified", found["images"])
            probabilities = columns.softmax(found["logits"][: len(shown)])
            rows.append(figures.SheetRow(names[column.text], shown, probabilities))
        title = "No sticker"
        if sticker.attack is not None:
            title = f"{sticker_label(lines, line)}; made for: {_made_for(lines, line)}"
        labels = np.full(1 + SHOWN, label)[: len(rows[0].images)]
        groups.append(figures.SheetGroup(title, labels, rows))
    classes = columns.class_names(context, groups[0].rows[0].probabilities.shape[-1])
    return ReportFigure(
        f"The sign {block.sign!r} with stickers",
        f"Left the face of the sign, then {SHOWN} of the views; a column that projects "
        "shows its projection, which is what it classifies.",
        figures.to_png(figures.projection_sheet(groups, class_names=classes)),
    )


def _results(group: Group) -> Iterator[Passage]:
    if tables := [*group.tables_by_seed(SUMMARY, stickers_table)]:
        yield Passage("Stickers on a road sign", tables)


FINDING = Finding(
    name="stickers",
    after="evaluate",
    wanted=lambda experiment: bool(experiment.stickers.sign),
    find=find,
    writes=(SUMMARY, "stickers/"),
    recorded=(SUMMARY,),
    show=_show,
    results=_results,
)
