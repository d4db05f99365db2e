"""What the page says of one run, of several seeds, and of other configs."""

import json
import pathlib
import re

import numpy as np
import pandas as pd
import pytest

from robust_manifold import evaluation
from robust_manifold.core.errors import UsageError
from robust_manifold.findings.recorded import over_seeds
from robust_manifold.reporting import Table
from robust_manifold.reporting.wide import turned

INC = "invert_and_classify(restarts=4)"


def test_a_run_is_shown_with_how_it_was_made(make_run, page, row_of):
    text = page(make_run())
    assert "# mnist: A table" in text
    assert (
        "```\nTFDS_DATA_DIR=... python -m robust_manifold.main "
        "--config=experiments/mnist.py \\\n"
        "    --workdir=runs/mnist-0 --config.classifier.from_run=net\n```"
    ) in text
    assert row_of(text, "Test images (n)")[1] == "100"
    assert row_of(text, "Intervals")[1] == "95 % Wilson interval"
    assert row_of(text, "Data")[1].startswith(
        "tfds:mnist: 5,000 train, 100 test images"
    )
    assert row_of(text, "Hardware")[1] == "1 x cpu, 1 process(es)"
    assert row_of(text, "Versions")[1] == "python 3.11.7, jax 0.10.2"
    assert row_of(text, "evaluate") == ["evaluate", "1 min 00 s"]
    assert row_of(text, "all") == ["all", "1 min 02 s"]
    assert row_of(text, "FGSM ε=0.1") == [
        *("FGSM ε=0.1", "60.0 % [50.2, 69.1]", "90.0 % [82.6, 94.5]")
    ]
    # The worst case over all rows inside the budget.
    assert row_of(text, "ℓ∞ ε=0.1", "60.0 % [50.2, 69.1]")[2] == "90.0 % [82.6, 94.5]"


def test_several_seeds_are_a_mean_and_a_spread(make_run, page, row_of, lines):
    runs = [
        make_run(f"s{seed}", seed=seed, files=lines({"none": (97, 60, 0), INC: right}))
        for seed, right in enumerate([(95, 90, 70), (98, 84, 70), (95, 93, 70)])
    ]
    text = page(*runs)
    accuracy = text.partition("## Accuracy")[2]
    shown = accuracy.partition("<details>")[0]
    assert row_of(shown, "FGSM ε=0.1")[2] == "89.0 % [84.0, 93.0]"
    assert row_of(shown, "FGSM ε=0.1")[1] == "60.0 % [60.0, 60.0]"
    assert "Wilson" not in shown and "mean over the seeds [least, greatest" in shown
    assert "n = 100 test images" in shown
    assert row_of(text, "Seeds")[1] == "0, 1, 2"
    assert row_of(text, "evaluate")[1:] == ["1 min 00 s"] * 3
    # Each seed stands behind a fold, with intervals of its own.
    (second,) = [
        part for part in text.split("<details>") if "<summary>Seed 1 alone" in part
    ]
    assert "84.0 % [75.6, 89.9]" in second and "Wilson" in second


def test_other_configs_are_not_averaged(make_run, page):
    more = {"evaluation": {"confidence": 0.95, "examples": 200}}
    text = page(make_run("a"), make_run("b", seed=1, config=more))
    assert text.count("## Accuracy") == 2
    assert "* `evaluation.examples is 200, there 100`" in text or (
        "* `evaluation.examples is 100, there 200`" in text
    )
    assert "mean over the seeds" not in text


def test_runs_whose_networks_come_from_elsewhere_are_averaged(make_run, page, row_of):
    def taken(folder):
        return {"classifier": {"training": "cross_entropy", "from_run": folder}}

    runs = [make_run(f"s{s}", seed=s, config=taken(f"/x/net-{s}")) for s in (0, 1)]
    text = page(*runs)
    assert row_of(text, "Seeds")[1] == "0, 1"
    assert row_of(text, "Networks taken over")[1] == (
        "classifier of net-0 (seed 0); classifier of net-1 (seed 1)"
    )


PLAIN = {"training": "cross_entropy", "duration": "6 epochs", "from_run": ""}


@pytest.fixture
def networks(tmp_path):
    """Returns a function that makes a run to take networks from; returns its path."""

    def make(name, **blocks):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(blocks))
        return str(tmp_path / name)

    return make


def test_taken_networks_count_by_how_they_were_trained(
    make_run, page, row_of, networks
):
    first = networks("first", classifier=PLAIN)
    second = networks("second", classifier=PLAIN | {"from_run": first})
    longer = networks("longer", classifier=PLAIN | {"duration": "9 epochs"})
    endless = networks("endless", classifier=PLAIN)
    (pathlib.Path(endless) / "config.json").write_text(
        json.dumps({"classifier": PLAIN | {"from_run": endless}})
    )
    runs = [
        make_run(f"s{seed}", seed=seed, config={"classifier": PLAIN | {"from_run": f}})
        for seed, f in enumerate(["", second, longer, "/not/there", endless])
    ]
    text = page("--record", *runs[:2])
    assert row_of(text, "Seeds")[1] == "0, 1"
    assert page() == text
    # Neither what is known to be another training nor what is not known.
    text = page("--record", *runs)
    assert "mean over the seeds" in text and text.count("## Accuracy") == 3
    assert "classifier of longer (trained with another duration)" in text
    assert '* `classifier.duration is "9 epochs", there "6 epochs"`' in text


def test_a_taken_network_stands_beside_figures_of_its_own_training(
    make_run, page, networks
):
    other = {"training": "adversarial(attack=pgd(epsilon=0.3))"}
    taken = PLAIN | {"from_run": networks("other", classifier=PLAIN | other)}
    text = page(make_run(config={"classifier": taken}))
    assert "Slides: no defence" not in text
    assert "Slides: no defence" in page(make_run("b", config={"classifier": PLAIN}))


def test_a_run_without_a_classifier_of_the_name_gives_its_own(make_run, page, networks):
    folder = networks("x", classifier=PLAIN, classifiers={"named": PLAIN})
    taken = PLAIN | {"from_run": folder, "duration": "1 epochs"}
    named = {"classifiers": {"named": taken, "robust": taken}, "encoder": taken}
    text = page(make_run(config=named))
    assert text.count("of x (trained with another duration)") == 2
    # A network of another kind is none of its own.
    assert "encoder of x," in text


def test_published_figures_are_compared_with_what_chance_leaves_open(
    make_run, page, row_of, lines
):
    found = lines({"none": (98, 60, 0)})
    runs = [make_run(f"s{seed}", seed=seed, files=found) for seed in (0, 1)]
    text = page(*runs).partition("Beside published")[2]
    # 97 % is outside of the seeds' spread, not of what their 100 images allow.
    row = row_of(text, "Clean", "–", "Clean", "No defence", "98.0 % [93.0, 99.4]")
    assert row[5:8] == ["97 %", "+1.0", "level"]
    assert "greatest of the ends of their 95 % Wilson intervals" in text


def test_flags_that_say_yes_by_being_there_are_kept(make_run, page):
    def command(*flags):
        return {"command": ["main.py", "--config", "experiments/mnist.py", *flags]}

    flags = ("--config.pretrained", "--workdir", "x", "--noconfig.y")
    text = page(make_run(status=command(*flags)))
    assert "--config.pretrained --noconfig.y\n```" in text
    text = page(
        make_run("b", status={"command": ["m.py", "--config=/home/mnist.py:x"]})
    )
    assert "robust_manifold.main --config=experiments/mnist.py:x" in text
    # The name of an experiment is no file's.
    text = page(make_run("c", status={"command": ["m.py", "--config=mnist:x"]}))
    assert "robust_manifold.main --config=mnist:x" in text


def test_tables_of_many_columns_are_turned():
    heads = [f"Column {place}" for place in range(7)]
    rows = [["ℓ2", "PGD", *heads], ["", "FGSM", *heads]]
    text = pd.DataFrame(rows, columns=["Budget", "Attack", *heads])
    table = turned(Table("", "Of it.", text, text, names=2))
    assert table.caption == "Of it." and table.names == 1
    assert list(table.text.columns) == ["Defence", "ℓ2, PGD", "ℓ2, FGSM"]
    assert table.text.to_numpy().tolist() == [[head] * 3 for head in heads]
    narrow = Table("", "", text.iloc[:, :-1], text, names=2)
    tall = Table("", "", pd.concat([text] * 4), text, names=2)
    assert turned(narrow) is narrow and turned(tall) is tall


def test_keys_younger_than_a_record_count_as_their_defaults(make_run, page, row_of):
    text = page(make_run("a"), make_run("b", seed=1, config={"pretrained": False}))
    assert row_of(text, "Seeds")[1] == "0, 1"


def test_networks_of_defences_are_named(make_run, page, row_of):
    files = {"model": "unet", "weights": "/x/a.npz,/x/b.npz", "from_run": ""}
    text = page(make_run(config={"networks": {"denoiser": files}}))
    assert row_of(text, "Networks taken over")[1] == "denoiser of a.npz,b.npz"


def test_published_networks_are_named_where_they_were_used(make_run, page, row_of):
    block = {"training": "cross_entropy", "from_run": "", "published": "mnist-cnn"}
    used = {"classifier": block, "pretrained": True}
    text = page(make_run("a", config=used))
    assert row_of(text, "Networks taken over")[1] == "classifier of mnist-cnn"
    unused = {"classifier": block, "pretrained": False}
    assert "taken over" not in page(make_run("b", config=unused))


def test_experiments_stand_in_one_order(make_run, front):
    def of(name):
        return {"command": ["main.py", f"--config=experiments/{name}.py"]}

    names = ("zebra", "celeba_gender", "ant", "mnist")
    text = front(*(make_run(name, status=of(name)) for name in names))
    assert re.findall(r"^### \[(\w+)\]\(results/\1.md\)", text, re.MULTILINE) == [
        *("mnist", "celeba_gender", "ant", "zebra")
    ]


def test_seeds_with_other_rows_are_refused(lines):
    both = [
        evaluation.read_results(lines(right)["results.csv"])
        for right in ({"none": (97, 60, 0)}, {INC: (97, 60, 0)})
    ]
    assert over_seeds(both[:1]) is both[0]
    with pytest.raises(UsageError, match="other rows"):
        over_seeds(both)


def test_large_results_show_adversaries_and_fold_attacks(make_run, page, row_of, lines):
    rows = (
        ("clean", "none", "", None),
        ("pgd(epsilon=4.0, norm='l2')", "oblivious", "l2", 4.0),
        ("pgd(epsilon=4.0, norm='l2')", "straight_through", "l2", 4.0),
    )
    text = page(make_run(files=lines({"defense_gan": (97, 90, 40)}, rows)))
    shown = text.partition("## Accuracy")[2].partition("<details>")[0]
    assert row_of(shown, "ℓ2 ε=4", "Oblivious")[2].startswith("90.0 %")
    assert row_of(shown, "", "Worst case")[2].startswith("40.0 %")
    assert "<summary>Every attack of every adversary</summary>" in text
    assert "<summary>Who breaks what alone</summary>" in text


PAIRS = {
    "classifier": "small_cnn",
    "search": "overpowered(eta=1.5)",
    "norm": "l2",
    "eta": 1.5,
    "n": 48,
    "found": 12,
    "interval": [0.15, 0.39],
    "distance_median": 1.234,
    "outputs_mean": 0.5,
}
BROKEN = {
    "column": INC,
    "adversary": "latent",
    "norm": "l2",
    "epsilon": 1.5,
    "n": 100,
    "broken": 12,
}


RIGHT = {"right": 50, "interval": [0.4, 0.6]}
GIVEN = {"file": "theirs", "column": "none", "n": 100, "broken": 12}
GIVEN |= {"originals": RIGHT, "images": RIGHT, "sha256": "ab"}
GIVEN |= {"l2_mean": 3.9, "l2_max": 4.0, "linf_max": 0.5}


def judged(line):
    verdicts = np.array(["changed"] * 3 + ["unchanged"] * 9)
    told = evaluation.summarise_verdicts(evaluation.TOGETHER, verdicts)
    return line | {
        "judges": [{**each._asdict(), "interval": [*each.interval]} for each in told]
    }


def check(verdict, name):
    found = {"verdict": verdict, "name": name, "sentence": f"The {name}.", "value": 1.0}
    return found | {"column": "none"}


def test_what_the_stages_stored_is_shown(make_run, page, row_of):
    errors = np.linspace(0, 1, 100)
    detected = evaluation.summarise_detection(
        classifier="small_cnn",
        defence=INC,
        adversary="oblivious",
        attack="fgsm(epsilon=0.1)",
        right=np.ones(100, bool),
        errors=errors + 0.5,
        validation=errors,
        false_positive_rate=0.05,
        clean=errors,
        norm="linf",
        epsilon=0.1,
    )
    files = {
        "pairs.json": [judged(PAIRS)],
        "given.json": [judged(GIVEN)],
        "on_manifold.json": [judged(BROKEN)],
        "audit.json": [check("FLAG", "cost"), check("PASS", "zero budget")],
        "detection.csv": evaluation.detection_to_csv([detected]),
    }
    text = page(make_run(files=files))
    assert row_of(text, "Small CNN", "ℓ2 ≤ 1.5")[2:] == [
        *("12 of 48, 25.0 % [15.0, 39.0]", "1.23", "0.5"),
        *("75.0 % [46.8, 91.1]", "25.0 % [8.9, 53.2]"),
    ]
    assert row_of(text, "Invert and Classify", "ℓ2 ε=1.5")[2:] == [
        *("12 of 100", "75.0 % [46.8, 91.1]", "25.0 % [8.9, 53.2]")
    ]
    assert "## Attacked images that others released" in text
    assert row_of(text, "No defence", "50.0 % [40.0, 60.0]")[3] == "12 of 100"
    assert row_of(text, "No defence", "1") == ["No defence", "1", "1", "0"]
    assert "<summary>What was flagged (1)</summary>" in text
    assert "\n* Cost, No defence: The cost.\n" in text
    assert f"{detected.auc:.3f} [" in text


def test_runs_of_one_dimension_show_their_convergence(make_run, page, row_of):
    runs = []
    for seed, distance in enumerate((0.01, 0.03)):
        found = {"step": 9, "total_variation": distance, "discriminator_distance": 0.5}
        files = dict.fromkeys(("results.csv", "worst_cases.csv"))
        files["convergence.json"] = found
        stages = {"stages": ["convergence"]}
        runs.append(make_run(f"s{seed}", seed=seed, files=files, config=stages))
    text = page(*runs)
    assert row_of(text, "Distance")[1:] == ["Seed 0", "Seed 1", "Mean"]
    total = row_of(text, "Total variation of generator and data")
    assert total[1:] == ["0.0100", "0.0300", "0.0200"]
    assert "after 9 steps" in text
    assert "## Accuracy" not in text and "Intervals" not in text


MEASURED = evaluation.GeneratorMeasures(
    **dict.fromkeys(evaluation.GeneratorMeasures._fields, 0.5)
    | dict.fromkeys(("n", "samples", "references", "k", "classes"), 10)
    | {"failed": 0, "steps": 500, "classes_covered": 9, "generator": "mlp_generator"}
    | dict.fromkeys(("data", "classifier", "solver", "restarts", "features"), "same")
    | {"training": "vae"}
)


def test_generators_of_one_experiment_stand_side_by_side(make_run, page, row_of):
    runs = [
        make_run(
            name,
            files={
                **dict.fromkeys(("results.csv", "worst_cases.csv")),
                "measures.csv": evaluation.measures_to_csv(
                    [MEASURED._replace(error_mean=error)]
                ),
            },
            config={"stages": ["measure"], "title": name},
            status={"command": ["main.py", f"--config=e/generators.py:{name}"]},
        )
        for name, error in (("wgan", 0.25), ("vae", 0.125))
    ]
    text = page(*runs).partition("## Side by side")[2].partition("## Its runs")[0]
    assert row_of(text, "Measure")[1:] == ["vae", "wgan"]
    found = row_of(text, "Error, mean ↓")[1:]
    assert [cell.split()[0] for cell in found] == ["0.12500", "0.25000"]


def manifolds(make_run, lines, arguments=("f0", "f1"), seeds=(0, 0), **changes):
    """Runs of an experiment with two arguments, behind one defence each."""
    rights = changes.get("rights", [(95, 90, 70), (96, 80, 60)])
    runs = []
    for number, (right, argument) in enumerate(zip(rights, arguments, strict=True)):
        bare = (97 - number * changes.get("off", 0), 60, 0)
        found = changes.get("made", (lines, lines))[number]({"none": bare, INC: right})
        command = ["main.py", f"--config=e/manifolds.py{argument and ':'}{argument}"]
        runs.append(
            make_run(
                f"m{number}",
                seed=seeds[number],
                files=found | changes.get("files", ({}, {}))[number],
                status={"command": command},
                config=changes.get("configs", ({}, {}))[number],
            )
        )
    return runs


def together(text):
    """The part of the page in which several arguments stand side by side."""
    return text.partition("## Side by side")[2].partition("## Its runs")[0]


def test_defences_of_one_experiment_stand_side_by_side(make_run, page, row_of, lines):
    found = together(page(*manifolds(make_run, lines)))
    heads = ["Adversary", "No defence", "f0", "f1"]
    assert row_of(found, "Budget", "Adversary")[1:] == heads
    shares = [cell.split()[0] for cell in row_of(found, "Clean")[1:]]
    assert shares == ["97.0", "95.0", "96.0"]
    shares = [cell.split()[0] for cell in row_of(found, "ℓ∞ ε=0.1", "Oblivious")[2:]]
    assert shares == ["60.0", "90.0", "80.0"]
    assert "behind Invert and Classify, 4 restarts." in found
    assert "Seed" not in found


def test_bare_networks_that_differ_are_told_apart(make_run, page, row_of, lines):
    found = together(page(*manifolds(make_run, lines, off=1)))
    shares = [cell.split()[0] for cell in row_of(found, "Clean")[1:]]
    assert shares == ["97.0", "95.0", "96.0", "96.0"]
    assert "f0: No defence" in found and "f1: No defence" in found


def test_of_several_seeds_the_first_is_told(make_run, page, lines):
    runs = manifolds(make_run, lines)
    command = ["main.py", "--config=e/manifolds.py:f0"]
    again = make_run("again", seed=1, status={"command": command})
    assert "Seed 0 of each. Accuracy" in together(page(*runs, again))


def test_an_argument_of_two_configs_is_left_out(make_run, page, row_of, lines):
    runs = manifolds(make_run, lines)
    command = ["main.py", "--config=e/manifolds.py:f2"]
    for n in (100, 50):
        config = {"evaluation": {"confidence": 0.95, "examples": n}}
        runs.append(make_run(f"n{n}", config=config, status={"command": command}))
    found = together(page(*runs))
    assert row_of(found, "Budget", "Adversary")[-2:] == ["f0", "f1"]


SIZE = {"examples": 100}
LESS = {"evaluation": {"confidence": 0.8, "examples": 100}}
OTHER_IMAGES = {"data.json": {"train": SIZE, "test": SIZE | {"sha256": "cd" * 32}}}


@pytest.mark.parametrize(
    "changed",
    [
        {"configs": ({}, LESS)},
        {"files": ({}, OTHER_IMAGES)},
        {"seeds": (0, 3)},
        {"arguments": ("", "f1")},
    ],
)
def test_what_cannot_be_compared_stands_apart(make_run, page, lines, changed):
    text = page(*manifolds(make_run, lines, **changed))
    assert "## Side by side" not in text and text.count("## Accuracy") == 2


def test_other_attacks_of_one_budget_stand_apart(make_run, page, lines):
    rows = (
        ("clean", "none", "", None),
        ("pgd(epsilon=0.1)", "oblivious", "linf", 0.1),
        ("carlini_wagner(norm='l0')", "oblivious", "l0", None),
    )

    def others(right):
        return lines(right, rows=rows)

    text = page(*manifolds(make_run, lines, made=(lines, others)))
    assert "## Side by side" not in text


def test_without_a_defence_nothing_stands_side_by_side(make_run, page, lines):
    def bare(right):
        return lines({"none": right["none"]})

    text = page(*manifolds(make_run, lines, off=1, made=(bare, bare)))
    assert "## Side by side" not in text


def test_runs_of_one_column_each_stand_side_by_side(make_run, page, row_of, lines):
    def defended(right):
        return lines({INC: right[INC]})

    def bare(right):
        return lines({"none": right["none"]}, n=200)

    runs = manifolds(make_run, lines, ("inc", "robust"), made=(defended, bare))
    found, _, by_adversary = together(page(*runs)).partition("**Accuracy by adversary")
    assert row_of(found, "Budget")[1:] == [
        "Invert and Classify, inc, n = 100",
        "No defence, robust, n = 200",
    ]
    shares = [cell.split()[0] for cell in row_of(found, "Clean")[1:]]
    assert shares == ["95.0", "48.5"]
    assert row_of(by_adversary, "ℓ∞ ε=0.1", "Oblivious")[-1].startswith("30.0 %")
    assert "named by the argument of the experiment" in found


def unions_of(count):
    """What unions.csv holds of a network that is right on so many in each ball."""
    right = np.arange(100) < count
    rows = [evaluation.Outcome("a", "none", "none", "clean", right)]
    balls = {"linf": 0.1, "l2": 1.5}
    for norm, epsilon in balls.items():
        attack = f"pgd(epsilon={epsilon}, norm={norm!r})"
        rows.append(
            evaluation.Outcome("a", "none", "unrolled", attack, right, norm, epsilon)
        )
    found = evaluation.union_lines(rows, [evaluation.Union(**balls)])
    return evaluation.unions_to_csv(found)


def test_unions_of_networks_stand_side_by_side(make_run, ended, tmp_path, lines):
    """With the picture of all of them; the same was measured of each."""
    made = [
        lambda right, name=name: lines({"none": right["none"]}, classifier=name)
        for name in ("plain", "robust")
    ]
    files = [{"unions.csv": unions_of(count)} for count in (40, 70)]
    runs = manifolds(make_run, lines, ("plain", "robust"), made=made, files=files)
    assert ended(*runs)[0] == 0
    text = (tmp_path / "docs/results/manifolds.md").read_text()
    found = together(text)
    (line,) = [row for row in found.splitlines() if row.startswith("| Any of ℓ∞ 0.1")]
    assert [cell.split()[0] for cell in line.split("|")[2:4]] == ["40.0", "70.0"]
    assert "](../images/manifolds_unions.png)" in found
    picture = (tmp_path / "docs/images/manifolds_unions.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_runs_of_several_columns_that_differ_stand_apart(make_run, page, lines):
    def other(right):
        return lines({"none": right["none"], "other()": right[INC]})

    text = page(*manifolds(make_run, lines, made=(lines, other)))
    assert "## Side by side" not in text


def test_the_front_page_has_what_readers_ask_for(make_run, front, lines, row_of):
    def column(argument, right, defence):
        command = ["main.py", f"--config=experiments/mnist_adaptive.py:{argument}"]
        found = lines({defence: right})
        return make_run(argument, files=found, status={"command": command})

    text = front(column("none", (97, 60, 0), "none"), column("inc", (95, 90, 70), INC))
    assert row_of(text, "Defence")[1:] == ["n", "Clean", "ℓ∞ ε=0.1"]
    assert row_of(text, "No defence")[1:] == ["100", "97.0", "60.0"]
    (told,) = re.findall(r"^\| Invert and Classify.*", text, re.MULTILINE)
    assert [cell.strip() for cell in told.split("|")[2:-1]] == [
        *("100", "95.0", "90.0 → 90.0")
    ]


def test_the_front_page_says_the_first_paragraph(make_run, front, page, tmp_path):
    words = tmp_path / "docs/results/words"
    words.mkdir(parents=True)
    (words / "front.md").write_text("What holds?\n")
    (words / "mnist.md").write_text("It holds.\n\nUp to 0.1.\n")
    text = front("--record", make_run())
    assert "What holds?" in text and "It holds." in text and "Up to" not in text
    assert "It holds.\n\nUp to 0.1." in page()


def test_long_folds_name_the_record(make_run, page):
    errors = np.linspace(0, 1, 100)
    detected = [
        evaluation.summarise_detection(
            classifier="small_cnn",
            defence=f"invert_and_classify(restarts={restarts})",
            adversary="oblivious",
            attack=f"pgd(epsilon=0.1, steps={steps})",
            right=np.ones(100, bool),
            errors=errors + 0.5,
            validation=errors,
            false_positive_rate=0.05,
            clean=errors,
            norm="linf",
            epsilon=0.1,
        )
        for restarts in (1, 2, 3)
        for steps in range(1, 41)
    ]
    text = page(
        make_run(files={"detection.csv": evaluation.detection_to_csv(detected)})
    )
    told = "2 tables more are in the record: [mnist-0](records/mnist-0)"
    assert told in text and text.count("40 steps") == 1
