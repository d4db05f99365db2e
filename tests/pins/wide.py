"""The config of the stored run: every adversary, and every table of a report.

Run it in a folder with digits.npz and given.npz:

  python -m robust_manifold.main --config=wide.py --workdir=run

Nothing in it means anything; the images have 10 x 10 pixels to keep the run small.
"""

from robust_manifold.config import add_classifier, default_config


def get_config():
    config = default_config()
    config.title = "A stored run"
    config.data.source = "npz:digits.npz"
    config.data.validation_examples = 20
    config.data.test_examples = 20
    config.classifier.model = "linear"
    config.classifier.duration = "60 steps"
    config.classifier.batch_size = 16
    config.generator.model = "vae_decoder(latent_size=4, hidden=8)"
    config.generator.training = "vae(encoder=vae_encoder(latent_size=4, hidden=8))"
    config.generator.duration = "20 steps"
    config.generator.batch_size = 8
    config.encoder.duration = "8 steps"
    config.encoder.batch_size = 16
    add_classifier(
        config,
        "robust",
        model="linear",
        start="classifier",
        training="adversarial(attack=pgd(epsilon=0.1, steps=2))",
        duration="4 steps",
        batch_size=16,
    )
    config.measures.examples = 6
    config.measures.solver = "adam(steps=3)"
    config.measures.restarts = "2"
    config.measures.validation_examples = 3
    config.measures.samples = 20
    config.diagnostics.examples = 3
    config.diagnostics.solvers = ("adam(steps=3)", "gradient_descent(steps=2)")
    config.diagnostics.restarts = "restarts(count=2, scale='unit')"
    config.diagnostics.recoveries = 4
    config.evaluation.examples = 4
    config.evaluation.round_size = 4
    config.evaluation.validation_examples = 4
    config.evaluation.attacks = (
        "pgd(epsilon=0.1, steps=2)",
        "carlini_wagner(binary_search_steps=2, steps=3)",
        "patch(mask=square(size=0.3), steps=2, samples=2, evaluation_samples=2)",
        "square(epsilon=0.2, queries=5)",
    )
    config.evaluation.adversaries = (
        "oblivious",
        "substitute",
        "straight_through",
        "bpda(solver=gradient_descent(steps=2))",
        "unrolled(samples=2, keys='fresh')",
        "implicit",
        "latent(steps=2, restarts=2)",
        "decision",
    )
    config.evaluation.substitute = (
        "substitute(model=linear, seeds=8, rounds=2, epochs=1, batch_size=8)"
    )
    config.evaluation.defences = (
        "none",
        "invert_and_classify(solver=adam(steps=3), restarts=2)",
        "none on robust",
    )
    config.evaluation.given = ("attacked_images(file='given.npz')",)
    config.overpowered.pairs = 3
    config.overpowered.searches = ("overpowered(4.0, steps=3, restarts=2)",)
    config.audit.examples = 4
    config.report.pictures = 4
    config.training.log_every = 4
    config.training.checkpoint_every = 4
    return config
