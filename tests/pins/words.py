"""The words of a report page, a line for each block and each row of a table."""

from html.parser import HTMLParser

_BLOCKS = frozenset("title h1 h2 h3 p a pre summary caption figcaption".split())


def words(page: str) -> list[str]:
    """Returns the words of a page, without the times of its stages."""
    parser = _Words()
    parser.feed(page)
    parser.close()
    return parser.lines


class _Words(HTMLParser):
    def __init__(self):
        super().__init__()
        self.lines: list[str] = []
        self._text = ""
        self._row: list[str] = []
        self._section = ""
        self._is_style = False

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "style":
            self._is_style = True
        elif tag == "section":
            self._section = given["id"]
        elif tag == "tr":
            self._row = []
        elif tag in ("td", "th"):
            self._text = ""
        elif tag == "div":
            self._text += " "
        elif tag == "img":
            self.lines.append(f"[{given.get('alt')}]")

    def handle_endtag(self, tag):
        if tag == "style":
            self._is_style = False
        elif tag in ("td", "th"):
            self._row.append(" ".join(self._text.split()))
            self._text = ""
        elif tag == "tr":
            row = self._row[:1] if self._section == "times" else self._row
            self.lines.append(" | ".join(row))
        elif tag in _BLOCKS:
            lines = (" ".join(line.split()) for line in self._text.split("\n"))
            self.lines += filter(None, lines)
            self._text = ""

    def handle_data(self, data):
        if not self._is_style:
            self._text += data
