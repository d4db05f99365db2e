"""Windows of an image: squares, and what they become on elongated images."""


def fitted(side: int, area: float, height: int, width: int) -> tuple[int, int]:
    """Returns the rows and columns of a window: a square, or as much of its area.

    Where the square is longer than one side of the image, the window takes that whole
    side, and grows along the other until it has the area or covers the image.

    Args:
      side: of the square.
      area: in pixels.
      height: of the image.
      width: of the image.
    """
    rows, columns = min(side, height), min(side, width)
    if side > height:
        columns = min(max(round(area / height), columns), width)
    elif side > width:
        rows = min(max(round(area / width), rows), height)
    return rows, columns
