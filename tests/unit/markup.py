"""A page as tests look at it: its elements and its text."""

from html.parser import HTMLParser


class Html(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, source: str) -> None:
        """Read the whole of `source`."""
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        """Keep text."""
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All text as it stands."""
        return "".join(self.texts)

    @property
    def words(self) -> str:
        """All text, with one space between any two words or elements."""
        return " ".join(" ".join(self.texts).split())

    def values(self, attribute: str) -> list[str]:
        """Return what each element that has the attribute has there."""
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]
