"""What a reader finds in a page: its tables, its sentences, and whatever would be loaded."""

from html.parser import HTMLParser

from markdown_it import MarkdownIt

_BLOCKS = {"h1", "h2", "h3", "p", "li"}
_EMPTY = {"img", "meta", "link", "br", "hr", "input", "wbr"}


class Page(HTMLParser):
    """A page, taken apart.

    Attributes:
        elements: every tag and its attributes.
        styles: contents of style sheets.
        scripts: contents of scripts.
        blocks: text of every heading, paragraph and list item, in order.
        tables: body rows of every table, as texts of their cells, in order.
        pictured: whether a table holds pictures.
        text: all that can be seen, but for what is written in charts.
    """

    def __init__(self, html):
        super().__init__()
        self.elements, self.blocks, self.tables, self.pictured, self.text = [], [], [], [], ""
        self.styles, self.scripts = [], []
        self._open = []
        self.feed(html)
        self.blocks = [text for text in map(_squeezed, self.blocks) if text]
        self.tables = [[[_squeezed(cell) for cell in row] for row in table] for table in self.tables]
        self.text = _squeezed(self.text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in _EMPTY:
            self._open.append(tag)
            self.text += " "
        if tag in _BLOCKS:
            self.blocks.append("")
        if tag == "table":
            self.tables.append([])
            self.pictured.append(False)
        elif tag == "tr" and "tbody" in self._open:
            self.tables[-1].append([])
        elif tag in {"td", "th"} and "tbody" in self._open:
            self.tables[-1][-1].append("")
        elif tag == "img" and "table" in self._open:
            self.pictured[-1] = True

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" in self._open:
            self.styles.append(data)
            return
        if "script" in self._open:
            self.scripts.append(data)
            return
        if "svg" in self._open:
            return
        self.text += data
        if {"td", "th"} & set(self._open) and "tbody" in self._open:
            self.tables[-1][-1][-1] += data
        elif _BLOCKS & set(self._open):
            self.blocks[-1] += data

    def named(self, tag):
        """Attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def rendered(markdown):
    """Markdown as a reader's program shows it, raw HTML let through."""
    return Page(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))


def _squeezed(text):
    return " ".join(text.split())
