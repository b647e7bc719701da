"""Links between pages lead somewhere, anchors included; addresses on the web are well formed, and nobody calls them."""

import re
from urllib.parse import urlsplit

import pytest

from tests.pages import PAGES, ROOT

CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text(page):
    return CODE.sub("", page.read_text(encoding="utf-8"))


def links(page):
    return LINK.findall(text(page))


def anchors(page):
    """As Python-Markdown's table of contents names the headings of a page, and of what it includes."""
    source = page.read_text(encoding="utf-8")
    for path in re.findall(r'^--8<-- "(.+)"$', source, flags=re.MULTILINE):
        source += (ROOT / path).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", source, flags=re.DOTALL), flags=re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading.encode("ascii", "ignore").decode()) for heading in headings)
    return {re.sub(r"[-\s]+", "-", each.strip().lower()) for each in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_inside_leads_somewhere(page):
    wrong = []
    for link in links(page):
        if urlsplit(link).scheme:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_address_is_well_formed(page):
    found = [urlsplit(link) for link in links(page) if urlsplit(link).scheme]
    wrong = [
        each.geturl() for each in found if each.scheme != "https" or not re.fullmatch(r"[\w-]+(\.[\w-]+)+", each.netloc)
    ]
    assert wrong == []
