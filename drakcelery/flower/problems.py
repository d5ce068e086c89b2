"""What a page says instead, where it cannot show what was asked for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from drakcelery.model.text import clean

SENTENCE = 2000
"""Characters of what is said."""
TITLES = {
    400: "This cannot be asked for",
    401: "Please log in",
    403: "This is not allowed",
    404: "There is nothing here",
    405: "This cannot be done here",
    409: "This did not work",
    503: "A service does not answer",
}
SAID = {
    401: "Flower shows its pages to those who have logged in. Load this page again to log in.",
    403: "Flower refused the request.",
    404: "Flower has no page at this address. It may be mistyped, or what it showed is gone.",
    405: "This address is for a button of a page, and shows nothing by itself.",
}
"""Where no sentence came with the status."""
ADVICE = {
    403: "If it should be allowed, whoever runs Flower finds the reason in its log.",
    409: "The sentence above says what to do; then load this page again.",
    500: "Load this page again. If it stays like this, report it with what Flower's log says.",
    503: "This page works again as soon as that does. On a terminal, drakcelery doctor says what is wrong.",
}
"""What to do."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What happened, and what to do."""

    status: int
    """Of HTTP."""
    title: str
    said: str
    advice: str
    """Empty where there is nothing to do."""
    find: str
    """What the Fleet page may be searched for instead, or empty."""


def problem(status: int, said: str = "", *, title: str = "", find: str = "") -> Problem:
    """What is shown for *status*; *said*, *title*: the sentence and the heading, if there are better ones."""
    return Problem(
        status=status,
        title=title or TITLES.get(status, "Flower could not answer"),
        said=clean(said, SENTENCE) or SAID.get(status, "Something went wrong in Flower. Its log says what."),
        advice=ADVICE.get(status, ""),
        find=find,
    )
