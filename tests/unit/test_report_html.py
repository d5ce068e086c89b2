"""The page as one file of HTML: it runs and loads nothing, whatever a sample chose."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from drakcelery.behaviour.difference import difference
from drakcelery.behaviour.report import Report
from drakcelery.operators.report import comparison
from drakcelery.operators.report.html import html
from drakcelery.operators.report.sections import document
from drakcelery.testing import RECORDED
from tests.reports import NASTY, file, hostile, process, report

VOID = ("meta",)


class Page(HTMLParser):
    """The elements of a page, their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: set[tuple[str, str]] = set()
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes.update((tag, name) for name, _ in attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def recorded() -> Report:
    """The report of our own sample."""
    return Report.model_validate_json((RECORDED / "report.json").read_bytes())


def test_the_recorded_analysis() -> None:
    """One heading of the first level, landmarks, and a caption for each table."""
    page = Page(html(document(recorded())))
    for once in ("h1", "header", "main", "nav", "title", "style"):
        assert page.elements.count(once) == 1
    assert page.elements.count("caption") == page.elements.count("table") > 4
    assert "behaviour.exe" in page.text
    assert any("sample[.]drakcelery[.]invalid" in text for text in page.text)


def test_the_policy_allows_only_the_style() -> None:
    """By its hash, as a browser computes it."""
    made = html(document(recorded()))
    style = re.search(r"<style>(.*?)</style>", made, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = f"default-src &#x27;none&#x27;; style-src &#x27;sha256-{digest}&#x27;; base-uri"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}' in made


@given(value=NASTY | st.text(max_size=30) | st.sampled_from(["</bdi><script>", "'\"><img src=x onerror=a>"]))
def test_nothing_that_a_sample_chose_does_anything(value: str) -> None:
    """It adds no element and no attribute, and nothing of it is a link or a control character."""
    for made, plain in (
        (html(document(hostile(value))), html(document(hostile("x")))),
        (
            html(comparison.document(difference(report(), hostile(value)))),
            html(comparison.document(difference(report(), hostile("x")))),
        ),
    ):
        assert all(char.isprintable() or char == "\n" for char in made)
        page, other = Page(made), Page(plain)
        assert set(page.elements) <= set(other.elements)
        assert page.attributes <= other.attributes
        assert not {"script", "img", "iframe", "object", "link", "form"} & set(page.elements)
        assert not re.search(r"(?i)https?://", made)


def test_every_row_has_a_name() -> None:
    """One to be read out, also where the sample chose none, and for both analyses of a difference."""
    nameless = report(files=[file("")])
    for page in (document(nameless), comparison.document(difference(nameless, report()))):
        assert '<th scope="row"></th>' not in html(page)
        assert '<th scope="row"><bdi class="value"></bdi></th>' not in html(page)
    assert '<th scope="row">(empty)</th>' in html(document(nameless))


def test_deep_trees_stay_flat() -> None:
    """A generation is told, and indented no further than eight."""
    chain = [process(number, parent=number - 1) for number in range(2, 40)]
    made = html(document(report(processes=[process(1, origin="sample"), *chain]), everything=True))
    assert 'class="depth8"><span class="hidden">Generation 38: </span>' in made
    assert "depth9" not in made
