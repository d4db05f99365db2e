"""The overpowered attack on a trained run, and whether its pairs are still one class.

    python benchmarks/overpowered.py --run=RUN --pairs=200 --eta 1.5 4.0 --sheet=DIR

RUN is a finished run of experiments/mnist_generators.py or mnist.py.  For each bound
eta on ||G(z) - G(z')||_2 it prints the share of searches that find two near images
which the classifier takes for different classes, their distances, and what judges say
of them that never met the classifier: two networks trained on the two halves of the
training images, and the nearest of the training images.  With --sheet it draws the
pairs, with --images it looks for near images of the range beside as many test images.
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np
import runs

from robust_manifold import attacks, data, evaluation, models, reporting, training
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.evaluation import TOGETHER

JUDGES = {"small_cnn": 1, "madry_cnn": 2}
"""Networks of the judges, each with its seed."""
SHOWN = 30
"""Pairs of a sheet."""


def main():
    arguments = _arguments()
    run = runs.Run(arguments.run)
    print(f"{run}; {run.classifier.text}; {runs.describe_machine()}")
    judges = _judges(run.dataset, arguments.judge_steps)
    for judge in judges:
        reads = judge.read(run.images(1000))
        share = np.mean(reads == run.test.labels[: len(reads)])
        print(f"  judge {judge.name}: right on {share:.4f} of {len(reads)} test images")
    encoder = run.encoder
    prior = run.generator.model.prior
    spanner = Spanner(
        run.generator.model.apply,
        run.generator.model.input_shape,
        prior,
        encoder and encoder.model.apply,
    )
    params = attacks.ManifoldParams(
        SpannerParams(run.generator.params, encoder and encoder.params),
        run.classifier.params,
    )
    for eta in arguments.eta:
        spec = attacks.Overpowered(
            eta,
            arguments.norm,
            arguments.steps,
            arguments.restarts,
            loss=arguments.loss,
            penalty=arguments.penalty,
            stop=arguments.stop,
        )
        print(f"\n{attacks.overpowered_registry.to_string(spec)}")
        _pairs(run, spec, spanner, params, judges, arguments)
        if arguments.images:
            _neighbours(run, spec, spanner, params, judges, arguments.images)


def _pairs(run, spec, spanner, params, judges, arguments):
    """Prints what the search for pairs finds, and draws it."""
    start = time.perf_counter()
    classify = run.classifier.model.apply
    found = attacks.find_pairs(
        spec, spanner, classify, params, arguments.pairs, key=jax.random.key(0)
    )
    seconds = time.perf_counter() - start
    rows = np.asarray(found.found)
    _print_found("pairs", rows, found.feasible, found.distances, seconds)
    norms = np.linalg.norm(np.asarray(found.latents), axis=-1)[rows]
    print(
        f"  latents: mean norm {norms.mean():.2f} (of draws: "
        f"{np.sqrt(found.latents.shape[-1]):.2f})"
    )
    if not rows.any():
        return
    images = np.asarray(found.images)[rows].clip(0, 1)
    judgement = evaluation.judge_pairs(judges, images[:, 0], images[:, 1])
    _print_judgement(judgement)
    if arguments.sheet:
        probabilities = np.asarray(jax.nn.softmax(found.logits))[rows]
        _draw(run, spec, found, images, probabilities, judgement, arguments.sheet)


def _neighbours(run, spec, spanner, params, judges, count):
    """Prints what the one-sided search finds beside test images."""
    images, labels = run.images(count), np.asarray(run.test.labels[:count])
    start = time.perf_counter()
    found = attacks.find_neighbours(
        spec,
        spanner,
        run.classifier.model.apply,
        params,
        images,
        labels,
        key=jax.random.key(1),
    )
    seconds = time.perf_counter() - start
    rows = np.asarray(found.found)
    _print_found("test images", rows, found.feasible, found.distances, seconds)
    if rows.any():
        near = np.asarray(found.images)[rows].clip(0, 1)
        _print_judgement(evaluation.judge_pairs(judges, images[rows], near))


def _print_found(what, rows, feasible, distances, seconds):
    n, count = len(rows), int(rows.sum())
    low, high = evaluation.wilson_interval(count, n)
    print(
        f"  {what}: found {count} of {n} ({100 * count / n:.1f} %, {100 * low:.1f} to "
        f"{100 * high:.1f}), feasible {int(np.sum(feasible))}, {seconds:.0f} s"
    )
    if count:
        distances = np.asarray(distances)[rows]
        print(
            f"  distances: mean {distances.mean():.4f}, median "
            f"{np.median(distances):.4f}, {distances.min():.4f} to "
            f"{distances.max():.4f}"
        )


def _print_judgement(judgement):
    for line in judgement.lines:
        low, high = line.interval
        print(
            f"  {line.judge:>12} {line.verdict:10} {line.pairs:4} of {line.n} "
            f"({100 * line.share:.1f} %, {100 * low:.1f} to {100 * high:.1f})"
        )


def _draw(run, spec, found, images, probabilities, judgement, folder):
    distances = np.asarray(found.distances)[np.asarray(found.found)]
    pairs = [
        reporting.ShownPair(
            images[place],
            probabilities[place],
            float(distances[place]),
            f"judges: {judgement.verdicts[TOGETHER][place]}",
        )
        for place in range(min(SHOWN, len(images)))
    ]
    title = f"{run.path.name}: pairs within {spec.norm} {spec.eta:g}"
    sheet = reporting.pair_sheet(
        pairs, class_names=run.dataset.class_names, title=title
    )
    path = Path(folder) / f"pairs-{spec.norm}-{spec.eta:g}.png"
    path.write_bytes(reporting.to_png(sheet))
    print(f"  {path}")


def _judges(dataset, steps):
    """Returns networks trained on a half of the images each, and neighbours."""
    order = np.random.default_rng(0).permutation(dataset.train.size)
    halves = np.array_split(order, len(JUDGES))
    judges = [
        evaluation.ClassifierJudge(
            text, *_trained(text, dataset, dataset.train.take(half), seed, steps)
        )
        for half, (text, seed) in zip(halves, JUDGES.items(), strict=True)
    ]
    train = dataset.train
    neighbours = evaluation.NeighbourJudge("neighbours", train.images, train.labels)
    return [*judges, neighbours]


def _trained(text, dataset, split, seed, steps):
    """Returns a classifier's `apply` and parameters after a short training."""
    model = models.build(
        text, image_shape=dataset.image_shape, classes=len(dataset.class_names)
    )
    key = jax.random.key(seed)
    recipe = training.CrossEntropy(optimizer="adam(learning_rate=0.001)")
    state = recipe.init(model, key, steps)
    batches = data.training_batches(split, batch_size=64, seed=seed)
    for step in range(steps):
        batch = batches[step]
        state, _ = recipe.step(model, steps, key, state, batch.images, batch.labels)
    return model.apply, recipe.train_params(state)


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, help="folder of a finished run")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--eta", type=float, nargs="+", default=[1.5, 4.0])
    parser.add_argument("--norm", default="l2", choices=["l2", "linf"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--restarts", type=int, default=4)
    parser.add_argument("--loss", default="margin", choices=list(attacks.PAIR_LOSSES))
    parser.add_argument("--penalty", type=float, default=0.0)
    parser.add_argument("--stop", action="store_true", help="end at the first pair")
    parser.add_argument("--images", type=int, default=0, help="test images, one-sided")
    parser.add_argument("--judge-steps", type=int, default=600)
    parser.add_argument("--sheet", default="", help="folder for sheets of pairs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
