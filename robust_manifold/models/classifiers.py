"""Classifiers: networks from an image to logits, mostly those of published tables.

All use ReLU.  Weights start with He's normal, the logits' with Glorot's uniform,
biases at zero.
"""

import dataclasses

import flax.linen as nn

from robust_manifold.core.spec import check
from robust_manifold.models.layers import (
    Conv,
    flatten,
    glorot_uniform,
    he_normal,
    local_response_normalization,
    max_pool,
)
from robust_manifold.models.model import ClassifierSpec, Shape, registry, unsupported


@dataclasses.dataclass(frozen=True)
class _Convolution:
    """One convolution and ReLU, then perhaps pooling (stride 2) and normalisation."""

    features: int
    kernel_size: int
    stride: int = 1
    padding: str = "SAME"
    pool: int = 0
    normalize: bool = False


@dataclasses.dataclass(frozen=True)
class _Dense:
    """One dense layer and ReLU, then perhaps dropout."""

    features: int
    dropout: float = 0.0


class _Network(nn.Module):
    """Dropout, convolutions, dropout, dense layers, logits."""

    classes: int
    convolutions: tuple[_Convolution, ...] = ()
    dense: tuple[_Dense, ...] = ()
    input_dropout: float = 0.0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, image, train):
        x = nn.Dropout(self.input_dropout, deterministic=not train)(image)
        for layer in self.convolutions:
            x = Conv(
                layer.features,
                (layer.kernel_size, layer.kernel_size),
                layer.stride,
                layer.padding,
                kernel_init=he_normal,
            )(x)
            x = nn.relu(x)
            if layer.pool:
                x = max_pool(x, layer.pool, 2)
            if layer.normalize:
                x = local_response_normalization(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(flatten(x))
        for layer in self.dense:
            x = nn.relu(nn.Dense(layer.features, kernel_init=he_normal)(x))
            x = nn.Dropout(layer.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes, kernel_init=glorot_uniform)(x)


def _check_side(spec: ClassifierSpec, image_shape: Shape, smallest: int) -> None:
    if min(image_shape[:2]) < smallest:
        raise unsupported(spec, image_shape, f"sides of {smallest} or more")


@registry.register("linear")
@dataclasses.dataclass(frozen=True)
class Linear(ClassifierSpec):
    """Logits that are linear in the pixels, for which attacks have closed forms."""

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        return _Network(classes)


@registry.register("small_cnn")
@dataclasses.dataclass(frozen=True)
class SmallCNN(ClassifierSpec):
    """A small network with pooling: accurate after a minute's training on a CPU.

    Twice a 5x5 convolution and 2x2 max-pooling, dropout, a dense layer, dropout,
    logits.  A dropout of p zeroes a share p.

    Attributes:
      width: channels of the first convolution; the second has twice as many.
      hidden: units of the dense layer.
      dropout: the share of the dense layer's units zeroed in training; half that
        share of its inputs is zeroed too.
    """

    width: int = 16
    hidden: int = 128
    dropout: float = 0.5

    def __post_init__(self):
        """Checks the fields."""
        check(self.width >= 1, self, "width", "1 or more")
        check(self.hidden >= 1, self, "hidden", "1 or more")
        check(0 <= self.dropout < 1, self, "dropout", "0 to below 1")

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        convolutions = (
            _Convolution(self.width, 5, pool=2),
            _Convolution(2 * self.width, 5, pool=2),
        )
        dense = (_Dense(self.hidden, self.dropout),)
        return _Network(classes, convolutions, dense, dropout=self.dropout / 2)


@registry.register("wong_cnn")
@dataclasses.dataclass(frozen=True)
class WongCNN(ClassifierSpec):
    """The MNIST network of Wong and Kolter 2018, the quickest to attack.

    4x4 stride-2 convolutions to 16 and 32, dense 100, logits.
    """

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        convolutions = (_Convolution(16, 4, stride=2), _Convolution(32, 4, stride=2))
        return _Network(classes, convolutions, (_Dense(100),))


@registry.register("madry_cnn")
@dataclasses.dataclass(frozen=True)
class MadryCNN(ClassifierSpec):
    """The MNIST network of Madry et al. 2018.

    Twice a 5x5 convolution (32, 64) and 2x2 max-pooling, dense 1024, logits.
    """

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        convolutions = (_Convolution(32, 5, pool=2), _Convolution(64, 5, pool=2))
        return _Network(classes, convolutions, (_Dense(1024),))


@registry.register("inc_mnist")
@dataclasses.dataclass(frozen=True)
class INCMNIST(ClassifierSpec):
    """The Robust Manifold Defense's classifier of digits (arXiv 1712.09196).

    A 5x5 convolution to 64, 3x3 max-pooling with stride 2, dense 384, 192, logits.
    """

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        convolutions = (_Convolution(64, 5, pool=3),)
        return _Network(classes, convolutions, (_Dense(384), _Dense(192)))


@registry.register("inc_celeba")
@dataclasses.dataclass(frozen=True)
class INCCelebA(ClassifierSpec):
    """The Robust Manifold Defense's classifier of faces (arXiv 1712.09196).

    Twice a 5x5 convolution to 64, 3x3 max-pooling with stride 2 and local response
    normalisation; then dense 384, 192, logits.
    """

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        convolutions = (_Convolution(64, 5, pool=3, normalize=True),) * 2
        return _Network(classes, convolutions, (_Dense(384), _Dense(192)))


@registry.register("defense_gan_a")
@dataclasses.dataclass(frozen=True)
class DefenseGANA(ClassifierSpec):
    """Classifier A of Samangouei et al. 2018.

    Convolutions 64 5x5 and 64 5x5 stride 2 (valid), dropout 0.25, dense 128, dropout
    0.5, logits.  A dropout of p zeroes a share p, as the paper's table reads; the
    released code passes p to TensorFlow 1's dropout, which keeps a share p.
    """

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        _check_side(self, image_shape, 5)
        convolutions = (
            _Convolution(64, 5),
            _Convolution(64, 5, stride=2, padding="VALID"),
        )
        return _Network(classes, convolutions, (_Dense(128, 0.5),), dropout=0.25)


# B and F differ in dropout only.
_B_CONVOLUTIONS = (
    _Convolution(64, 8, stride=2),
    _Convolution(128, 6, stride=2, padding="VALID"),
    _Convolution(128, 5, padding="VALID"),
)
_B_SMALLEST_SIDE = 27


@registry.register("defense_gan_b")
@dataclasses.dataclass(frozen=True)
class DefenseGANB(ClassifierSpec):
    """Classifier B of Samangouei et al. 2018.

    Dropout 0.2, convolutions 64 8x8 stride 2, 128 6x6 stride 2 (valid) and 128 5x5
    (valid), dropout 0.5, logits.  A dropout of p zeroes a share p, as the paper's
    table reads; the released code keeps a share p.
    """

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        _check_side(self, image_shape, _B_SMALLEST_SIDE)
        return _Network(classes, _B_CONVOLUTIONS, input_dropout=0.2, dropout=0.5)


@registry.register("defense_gan_c")
@dataclasses.dataclass(frozen=True)
class DefenseGANC(ClassifierSpec):
    """Classifier C of Samangouei et al. 2018.

    Convolutions 128 3x3 and 64 5x5 stride 2 (valid), dropout 0.25, dense 128, dropout
    0.5, logits.  A dropout of p zeroes a share p, as the paper's table reads; the
    released code keeps a share p.
    """

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        _check_side(self, image_shape, 5)
        convolutions = (
            _Convolution(128, 3),
            _Convolution(64, 5, stride=2, padding="VALID"),
        )
        return _Network(classes, convolutions, (_Dense(128, 0.5),), dropout=0.25)


@registry.register("defense_gan_d")
@dataclasses.dataclass(frozen=True)
class DefenseGAND(ClassifierSpec):
    """Classifier D of Samangouei et al. 2018.

    Dense 200, dropout 0.5, dense 200, logits.  A dropout of p zeroes a share p, as
    the paper's table reads; the released code keeps a share p.
    """

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        return _Network(classes, (), (_Dense(200, 0.5), _Dense(200)))


@registry.register("defense_gan_e")
@dataclasses.dataclass(frozen=True)
class DefenseGANE(ClassifierSpec):
    """Classifier E of Samangouei et al. 2018: dense 200, dense 200, logits."""

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        return _Network(classes, (), (_Dense(200), _Dense(200)))


@registry.register("defense_gan_f")
@dataclasses.dataclass(frozen=True)
class DefenseGANF(ClassifierSpec):
    """Classifier F of Samangouei et al. 2018: classifier B without dropout."""

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        _check_side(self, image_shape, _B_SMALLEST_SIDE)
        return _Network(classes, _B_CONVOLUTIONS)
