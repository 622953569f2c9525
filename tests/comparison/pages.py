"""Reads a page back."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a page holds; `open` is empty at the end if all its elements close."""

    VOID = ("meta", "img", "br", "wbr")

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.images, self.references, self.text = [], [], [], [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        self.references += [attributes[name] for name in ("src", "href", "srcset", "action") if name in attributes]
        if tag == "img":
            self.images.append(attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
