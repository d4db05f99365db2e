"""The donors of a cascade: classifiers that are attacked in a defended one's stead."""

from typing import Any

from robust_manifold import defenses
from robust_manifold.core.criterion import Criterion
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.core.networks import GENERATOR, Networks
from robust_manifold.core.types import Params
from robust_manifold.evaluation.cascades.judged import Judged
from robust_manifold.evaluation.cascades.members import Donor
from robust_manifold.inversion import GradientDescent, Restarts


def bare_network(
    classify: Any, params: Params, wants: Criterion | None = None
) -> Donor:
    """Returns the classifier without a defence.

    Args:
      classify: `classify(params, image) -> logits`.
      params: of the classifier.
      wants: as of `Judged`.
    """
    alone = defenses.DefenseParams({}, params)
    judged = Judged(defenses.NoDefense(), Networks(), classify, alone, wants=wants)
    return Donor("the bare network", judged, defenses.Unrolled())


def inverted(
    name: str,
    spanner: Spanner,
    spanned: SpannerParams,
    classify: Any,
    params: Params,
    search: defenses.Defense | None = None,
    wants: Criterion | None = None,
) -> Donor:
    """Returns the classifier behind a short inversion of a generator.

    Args:
      name: of the generator.
      spanner: the generator.
      spanned: its parameters.
      classify: `classify(params, image) -> logits`.
      params: of the classifier.
      search: the inversion; ten plain steps by default.
      wants: as of `Judged`.
    """
    restarts = Restarts(count=1, encoded=int(spanner.encode is not None))
    judged = Judged(
        search or defenses.InvertAndClassify(GradientDescent(steps=10), restarts),
        Networks(**{GENERATOR: spanner}),
        classify,
        defenses.DefenseParams({GENERATOR: spanned}, params),
        wants=wants,
    )
    return Donor(f"a short inversion on {name}", judged, defenses.Unrolled())
