"""The config of an experiment: its keys, and its frozen, checked form.

A config file defines `get_config()`, which returns `default_config()` with some values
changed.  `validate` turns it into an `Experiment` of frozen specs, or raises a
`UsageError` of one sentence; nothing below the stages ever sees a ConfigDict.
"""

from robust_manifold.config.blocks import Data, EvaluationBlock
from robust_manifold.config.column import CLASSIFIER, Column
from robust_manifold.config.components import REGISTRIES
from robust_manifold.config.editing import (
    add_classifier,
    add_network,
    default_config,
    defaults_beside,
    plain_values,
    where_pretrained,
)
from robust_manifold.config.experiment import (
    FREE,
    NAMED,
    STAGES,
    Experiment,
    validate,
)
from robust_manifold.config.networks import ORIGINS, DefenceNetwork
from robust_manifold.config.schema import TYPES, Key
from robust_manifold.config.stored import check_stored

__all__ = [
    "CLASSIFIER",
    "ORIGINS",
    "REGISTRIES",
    "FREE",
    "NAMED",
    "STAGES",
    "TYPES",
    "Column",
    "Data",
    "DefenceNetwork",
    "EvaluationBlock",
    "Experiment",
    "Key",
    "add_classifier",
    "add_network",
    "check_stored",
    "default_config",
    "defaults_beside",
    "plain_values",
    "validate",
    "where_pretrained",
]
