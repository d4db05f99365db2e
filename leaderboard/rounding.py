"""Pixels are rounded to 0 or 1 (Xu, Evans and Qi 2018, bit depth 1)."""


def entry():
    return {"defence": "bit_depth(bits=1)", "title": "bit depth 1"}
