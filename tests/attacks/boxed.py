"""The nearest image on a linear boundary, inside the box, in every norm."""

import numpy as np


def distance(norm, image, slopes, gap):
    """Returns how far it is to where a linear function has risen by `gap`, in float64.

    Args:
      norm: of the distance.
      image: pixels in [0, 1] of any shape.
      slopes: of the function, as many.
      gap: by how much it is to rise, above 0; infinite is the answer where the box
        does not hold it.
    """
    pixels, slopes = (np.ravel(a).astype(np.float64) for a in (image, slopes))
    room, steep = np.where(slopes > 0, 1 - pixels, pixels), np.abs(slopes)
    if steep @ room < gap:
        return np.inf
    if norm in ("l0", "l1"):
        order = np.argsort(-(steep * room if norm == "l0" else steep))
        reached = np.cumsum((steep * room)[order])
        whole = np.searchsorted(reached, gap)
        if norm == "l0":
            return whole + 1
        last = order[whole]
        left = gap - (reached[whole] - steep[last] * room[last])
        return room[order][:whole].sum() + left / steep[last]
    low, high = 0.0, 1.0
    rate = steep if norm == "l2" else np.ones_like(steep)
    while steep @ np.minimum(high * rate, room) < gap:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        enough = steep @ np.minimum(middle * rate, room) >= gap
        low, high = (low, middle) if enough else (middle, high)
    return np.linalg.norm(
        np.minimum(high * rate, room), {"l2": 2, "linf": np.inf}[norm]
    )
