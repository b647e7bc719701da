"""Links between pages lead somewhere, anchors included; addresses on the web are well formed, and nobody calls them."""

import re
from urllib.parse import urlsplit

import pytest

from tests.pages import PAGES, ROOT

CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page):
    """As Python-Markdown's table of contents names the headings of a page, and of what it includes."""
    source = page.read_text(encoding="utf-8")
    for path in re.findall(r'^--8<-- "(.+)"$', source, flags=re.MULTILINE):
        source += (ROOT / path).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", source, flags=re.DOTALL), flags=re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading.encode("ascii", "ignore").decode()) for heading in headings)
    return {re.sub(r"[-\s]+", "-", each.strip().lower()) for each in words}


def wrong(page, link):
    """Whether a link leads nowhere: an address that is not well formed, an absent file, an absent heading."""
    address = urlsplit(link)
    if address.scheme:
        return address.scheme != "https" or not re.fullmatch(r"[\w-]+(\.[\w-]+)+", address.netloc)
    target = page.parent / address.path if address.path else page
    return not target.exists() or (address.fragment and address.fragment not in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    assert [link for link in LINK.findall(text) if wrong(page, link)] == []
