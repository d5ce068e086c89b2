"""Options as GNU getopt_long reads them: clusters, attached values, abbreviations, and its complaints."""

from __future__ import annotations

TYPE_CHECKING = False  # as in bare.py
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Refused(Exception):
    """getopt_long would have returned ``?``; the text is what it prints."""

    def __init__(self, text: str, option: str) -> None:
        super().__init__(text)
        self.option = option
        """The letter, or the long option as it was written."""


class Scan:
    """Iterates over ``(option, value)``; what is no option is in :attr:`rest` afterwards.

    *short* is getopt's string (``ab:``); *long* says of each name whether it takes a value. *permute* False
    stops at the first word that is no option, as getopt does for a leading ``+``.
    """

    def __init__(
        self, program: str, argv: list[str], short: str, long: Mapping[str, bool], *, permute: bool = True
    ) -> None:
        self._program = program
        self._words = list(argv)
        self._short = short
        self._long = long
        self._permute = permute
        self.rest: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, str | None]]:
        while self._words:
            word = self._words.pop(0)
            if word == "--":
                break
            if word.startswith("--"):
                yield self._long_option(word[2:])
            elif word.startswith("-") and word != "-":
                yield from self._cluster(word[1:])
            else:
                self.rest.append(word)
                if not self._permute:
                    break
        self.rest += self._words

    def next_word(self) -> str | None:
        """Take the next word if it is no option (``argv[optind++]``); None if there is none."""
        if self._words and not self._words[0].startswith("-"):
            return self._words.pop(0)
        return None

    def _long_option(self, text: str) -> tuple[str, str | None]:
        written, equals, value = text.partition("=")
        matches = [written] if written in self._long else [x for x in self._long if x.startswith(written)]
        if not matches:
            raise Refused(f"{self._program}: unrecognized option '--{written}'", written)
        if len(matches) > 1:
            listed = " ".join(f"'--{match}'" for match in matches)
            text = f"{self._program}: option '--{written}' is ambiguous; possibilities: {listed}"
            raise Refused(text, written)
        name = matches[0]
        if not self._long[name]:
            if equals:
                raise Refused(f"{self._program}: option '--{name}' doesn't allow an argument", name)
            return f"--{name}", None
        if equals:
            return f"--{name}", value
        if not self._words:
            raise Refused(f"{self._program}: option '--{name}' requires an argument", name)
        return f"--{name}", self._words.pop(0)

    def _cluster(self, letters: str) -> Iterator[tuple[str, str | None]]:
        for index, letter in enumerate(letters):
            at = self._short.find(letter)
            if at < 0 or letter == ":":
                raise Refused(f"{self._program}: invalid option -- '{letter}'", letter)
            if self._short[at + 1 : at + 2] != ":":
                yield f"-{letter}", None
                continue
            attached = letters[index + 1 :]
            if not attached and not self._words:
                raise Refused(f"{self._program}: option requires an argument -- '{letter}'", letter)
            yield f"-{letter}", attached or self._words.pop(0)
            return


def atoi(text: str) -> int:
    """As C's atoi reads a number: what does not begin with one is 0."""
    digits = ""
    for character in text.strip():
        if not (character.isascii() and (character.isdigit() or (not digits and character in "+-"))):
            break
        digits += character
    return int(digits) if digits.lstrip("+-") else 0
