"""The whole pipeline in two minutes, to see that it runs; its figures mean nothing.

python -m robust_manifold.main --config=experiments/tiny.py --workdir=/tmp/tiny
"""

from robust_manifold.config import add_classifier, default_config


def get_config():
    config = default_config()
    config.title = "Tiny: does every stage run?"
    config.data.source = "mnist_5k"
    config.data.validation_examples = 200
    config.data.test_examples = 200
    config.classifier.model = "small_cnn(width=8)"
    config.classifier.duration = "60 steps"
    config.generator.model = "dcgan_generator(latent_size=16, width=4)"
    config.generator.training = "gan(discriminator=dcgan_discriminator(width=4))"
    config.generator.duration = "40 steps"
    config.encoder.model = "conv_encoder(latent_size=16, width=4)"
    config.encoder.duration = "20 steps"
    config.encoder.batch_size = 64
    add_classifier(
        config,
        "enhanced",
        start="classifier",
        training="enhanced_inc(every=5, pairs=4, search=overpowered(1.5, steps=4))",
        duration="10 steps",
    )
    config.measures.examples = 24
    config.measures.solver = "adam(steps=10)"
    config.measures.restarts = "2"
    config.measures.validation_examples = 8
    config.measures.samples = 100
    config.diagnostics.examples = 8
    config.diagnostics.solvers = ("adam(steps=10)", "levenberg_marquardt(steps=2)")
    config.diagnostics.restarts = "restarts(count=2, scale='unit')"
    config.diagnostics.recoveries = 8
    config.evaluation.examples = 24
    config.evaluation.round_size = 12
    config.evaluation.attacks = ("fgsm(epsilon=0.2)", "pgd(epsilon=0.1, steps=5)")
    config.evaluation.adversaries = ("oblivious", "straight_through")
    config.evaluation.defences = (
        "none",
        "invert_and_classify(solver=adam(steps=10), restarts=2)",
        "none on enhanced",
    )
    # Each member and each way of the pilot is compiled for itself.
    config.evaluation.worst_case = (
        "cascade(linf=(0.2,), effort=effort(steps=3, aimed_steps=0, views=1, "
        "all_steps=0, queries=0, dampings=(0.001,), pilot=4, samples=1))"
    )
    config.evaluation.validation_examples = 24
    config.overpowered.pairs = 8
    config.overpowered.searches = ("overpowered(4.0, steps=10, restarts=2)",)
    config.audit.examples = 4
    # Each of them compiles an attack of its own.
    config.audit.left_out = (
        "more steps",
        "more restarts",
        "scores against white box",
        "scale of the logits",
        "silent success",
        "unfinished search",
        "unbounded budget",
        "stronger pass",
        "active test",
    )
    config.training.log_every = 10
    config.training.checkpoint_every = 20
    return config


def sweep():
    """Yields three seeds of two generators, to see that a sweep runs."""
    for seed in range(3):
        for loss in ("wgan_gp", "hinge"):
            training = f"gan(loss='{loss}', discriminator=dcgan_discriminator(width=4))"
            yield {"seed": seed, "generator.training": training}
