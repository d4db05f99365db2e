"""A classifier of MNIST trained on attacked digits, to compare attacks on.

  TFDS_DATA_DIR=... python -m robust_manifold.main --config=FILE

where FILE is experiments/mnist_adversarial.py.

`benchmarks/attacks.py --robust=RUN` attacks it.  95.2 % of 5,000 validation digits are
classified well after it, and in the last logged minibatch 64.8 % under the attack.  On
two CPU cores with much other work beside it: 21 min 45 s.
"""

from robust_manifold.config import default_config


def get_config():
    config = default_config()
    config.title = "Adversarial training on MNIST"
    config.stages = ("fit_classifier", "report")
    config.data.source = "tfds:mnist"
    config.data.validation_examples = 5000
    config.data.test_examples = 0

    config.classifier.model = "small_cnn"
    config.classifier.duration = "3 epochs"
    config.classifier.batch_size = 128
    # 7 steps of epsilon / 4 reach nearly across the ball, whose diameter is 8 of them.
    config.classifier.training = (
        "adversarial(attack=pgd(epsilon=0.2, steps=7, step_size=0.05), "
        "optimizer=adam(learning_rate=0.001, schedule='cosine'))"
    )
    config.training.checkpoint_every = 200
    return config
