"""What attacks cannot do without: passes through the network alone.

A gradient attack of n steps needs n gradients of every image, a search by scores n
forward passes.  What it takes beyond that is its own.
"""

import functools

import jax
import jax.numpy as jnp
import timing
import torch

from robust_manifold import attacks
from robust_manifold.attacks.losses import margin

STEPS = 40
TILE = 32
"""Images that attacks of this package compute at once on a CPU."""


def compare(case, epsilon, rounds, budget):
    """Prints seconds of passes through one network, and of PGD beside them.

    Args:
      case: the network and the images.
      epsilon: of PGD, linf.
      rounds: each runs every contender once.
      budget: seconds after which no further round is begun.
    """
    jax_gradients = functools.partial(_jax_passes, case, _gradient)
    jax_forwards = functools.partial(_jax_passes, case, _forward)
    contenders = {
        "ours: PGD": functools.partial(_pgd, case, epsilon),
        "jax: gradients": jax_gradients,
        "jax: forwards": jax_forwards,
        "torch: gradients": functools.partial(_torch_passes, case, True),
        "torch: forwards": functools.partial(_torch_passes, case, False),
    }
    times = timing.compare(
        {name: timing.Contender(run) for name, run in contenders.items()},
        rounds,
        budget,
    )
    print(f"{case.name}: {STEPS} passes of {len(case.images)} images, nothing between")
    print(f"  {'':18}{'seconds':>9}{'images a second':>17}")
    for name in contenders:
        seconds = times.median(name)
        speed = STEPS * len(case.images) / seconds
        print(f"  {name:18}{seconds:9.2f}{speed:17,.0f}")
    print(f"  PGD / its gradients: {times.ratio('ours: PGD', 'jax: gradients')}")
    print(f"  torch's / ours: {times.ratio('torch: gradients', 'jax: gradients')}")


def _pgd(case, epsilon):
    size = 2.5 * epsilon / STEPS
    attack = attacks.PGD(epsilon, steps=STEPS, step_size=size)
    made = attacks.craft(
        attack,
        case.classifier.model.apply,
        case.classifier.params,
        case.images,
        case.labels,
        key=jax.random.key(0),
    )
    return made.images.block_until_ready()


def _forward(apply, params, image, label):
    return image + 1e-9 * apply(params, image)[label]


def _gradient(apply, params, image, label):
    def loss(image):
        return margin(apply(params, image), label)

    return image + 1e-9 * jax.grad(loss)(image)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _repeated(moved, apply, params, images, labels):
    move = jax.vmap(functools.partial(moved, apply, params))
    return jax.lax.fori_loop(0, STEPS, lambda _, x: move(x, labels), images)


def _jax_passes(case, moved):
    apply, params = case.classifier.model.apply, case.classifier.params
    made = []
    for start in range(0, len(case.images), TILE):
        part = case.part(start, start + TILE)
        images, labels = jnp.asarray(part.images), jnp.asarray(part.labels)
        made.append(_repeated(moved, apply, params, images, labels))
    return jax.block_until_ready(made)


def _torch_passes(case, gradients):
    images, labels = case.torch_batch()
    for _ in range(STEPS):
        images = images.detach().requires_grad_(gradients)
        with torch.set_grad_enabled(gradients):
            loss = torch.nn.functional.cross_entropy(
                case.torch(images), labels, reduction="sum"
            )
            if gradients:
                torch.autograd.grad(loss, images)
