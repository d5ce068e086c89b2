"""A page about a report as one file of HTML, for mail and archive: no script, nothing from elsewhere. Pure.

Its policy (CSP level 3) allows nothing but the style sheet inside, by its hash. What a sample chose is
escaped, and isolated from the direction of the text around it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from html import escape

from drakcelery.operators.report.document import Document, Entry, Part, Section
from drakcelery.operators.report.processes import DEEPEST

STYLE = """
:root { color-scheme: light dark;
  --back: #fff; --text: #1b1f24; --quiet: #57606a; --alert: #a5161d; --line: #8c959f }
@media (prefers-color-scheme: dark) {
  :root { --back: #15181c; --text: #e6e8ea; --quiet: #a8b0b8; --alert: #ff9a8f; --line: #6e7781 }
}
body { margin: 0 auto; padding: 1rem; max-width: 75rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; line-height: 1.25 } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem }
a { color: inherit } a:focus-visible { outline: 3px solid currentColor; outline-offset: 2px }
nav ul { display: flex; flex-wrap: wrap; gap: .5rem 1rem; padding: 0; list-style: none }
nav a { display: inline-block; padding: .25rem 0 }
table { width: 100%; border-collapse: collapse } caption { text-align: left; color: var(--quiet) }
th, td { padding: .35rem .5rem .35rem 0; border-top: 1px solid var(--line);
  text-align: left; vertical-align: top }
thead th { border-top: 0 } tbody th { font-weight: normal; width: 50% } .facts tbody th { width: 7rem }
.tree { padding: 0; list-style: none } .tree li { padding: .25rem 0; border-top: 1px solid var(--line) }
.value { font-family: ui-monospace, monospace; font-size: .9rem }
.words, .label, .quiet { color: var(--quiet) } .alert { color: var(--alert); font-weight: bold }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
@media (max-width: 40rem) { tbody th { width: 45% } .facts tbody th { width: 5.5rem } }
""" + "".join(f".depth{depth} {{ padding-left: {depth}rem }}\n" for depth in range(1, DEEPEST + 1)).replace(
    ".depth", ".tree .depth"
)


def html(page: Document) -> str:
    """*page*, with a line end at its end."""
    return "\n".join(_lines(page)) + "\n"


def policy() -> str:
    """What the page may load: only its own style sheet."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _lines(page: Document) -> Iterator[str]:
    title = escape(page.title.text)
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{escape(policy())}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="referrer" content="no-referrer">'
    yield f"<title>{title}: what was seen</title>\n<style>{STYLE}</style>\n</head>\n<body>"
    yield f"<header>\n<h1><bdi>{title}</bdi></h1>"
    yield f'<p class="{page.ending.kind}">{escape(page.ending.text)}</p>'
    yield "</header>\n<main>"
    yield from _contents(page.sections)
    yield from _facts(page)
    for number, section in enumerate(page.sections):
        yield f'<section aria-labelledby="s{number}">'
        yield f'<h2 id="s{number}">{escape(section.title)} ({section.count})</h2>'
        yield from _tree(section) if section.is_tree else _table(section)
        if section.more:
            yield f'<p class="words">{section.more} more are not shown.</p>'
        yield "</section>"
    if page.notes:
        yield '<section aria-labelledby="notes">\n<h2 id="notes">Notes</h2>\n<ul>'
        yield from (f"<li>{_joined(note)}</li>" for note in page.notes)
        yield "</ul>\n</section>"
    yield "</main>\n</body>\n</html>"


def _contents(sections: Iterable[Section]) -> Iterator[str]:
    links = [
        f'<li><a href="#s{number}">{escape(section.title)}</a></li>'
        for number, section in enumerate(sections)
    ]
    if links:
        yield '<nav aria-label="Contents">\n<ul>'
        yield from links
        yield "</ul>\n</nav>"


def _facts(page: Document) -> Iterator[str]:
    if page.facts:
        yield '<table class="facts">\n<caption>What was analysed</caption>\n<tbody>'
        for one in page.facts:
            yield f'<tr><th scope="row">{escape(one.name)}</th><td>{_joined(one.parts)}</td></tr>'
        yield "</tbody>\n</table>"


def _table(section: Section) -> Iterator[str]:
    yield f"<table>\n<caption>{escape(section.title)}: {len(section.entries)} of {section.count}</caption>"
    has_more = any(len(entry.parts) > 1 for entry in section.entries)
    more = '<th scope="col">More of it</th>' if has_more else ""
    yield f'<thead><tr><th scope="col">What</th>{more}</tr></thead>\n<tbody>'
    for entry in section.entries:
        rest = f"<td>{_joined(entry.parts[1:])}</td>" if has_more else ""
        yield f'<tr><th scope="row">{_joined(entry.parts[:1]) or "(empty)"}</th>{rest}</tr>'
    yield "</tbody>\n</table>"


def _tree(section: Section) -> Iterator[str]:
    yield '<ul class="tree">'
    for entry in section.entries:
        yield f"<li{_depth(entry)}{_joined(entry.parts)}</li>"
    yield "</ul>"


def _depth(entry: Entry) -> str:
    """How far a process is from its first ancestor: seen, and heard."""
    if not entry.depth:
        return ">"
    return f' class="depth{min(entry.depth, DEEPEST)}"><span class="hidden">Generation {entry.depth}: </span>'


def _joined(parts: Iterable[Part]) -> str:
    return " · ".join(_part(one) for one in parts if one.text)


def _part(part: Part) -> str:
    label = f'<span class="label">{escape(part.label)}</span> ' if part.label else ""
    kind = f"value {part.kind}" if part.kind == "quiet" else part.kind
    return f'{label}<bdi class="{kind}">{escape(part.text)}</bdi>'
