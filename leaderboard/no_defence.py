"""Nothing: the published network as it is, for comparison."""


def entry():
    return {"defence": None, "title": "no defence"}
