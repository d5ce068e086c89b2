"""Options as click 8.1 reads them, and its complaints: 2 for a wrong command line, ``Aborted!`` and 1."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in bare.py
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class UsageError(Exception):
    """click would have exited with 2."""


class Abort(Exception):
    """click would have printed ``Aborted!`` and exited with 1."""


class Command:
    """One command's own options and arguments.

    *options* maps each spelling to its name, or to ``!name`` for a flag; *arguments* are the names of the
    arguments, the last one with ``*`` if it takes any number.
    """

    def __init__(
        self, path: str, options: Mapping[str, str] | None = None, arguments: Sequence[str] = ()
    ) -> None:
        self.path = path
        self.options = options or {}
        self.arguments = arguments

    def parse(self, argv: list[str]) -> tuple[dict[str, str], list[str]]:
        """Options by name, and the arguments. Raises :class:`UsageError`; ``--help`` exits."""
        values: dict[str, str] = {}
        found: list[str] = []
        words = list(argv)
        while words:
            word = words.pop(0)
            if word == "--":
                found += words
                break
            if word == "--help":
                sys.stdout.write(self._usage())
                sys.exit(0)
            if word.startswith("-") and word != "-":
                self._option(word, words, values)
            else:
                found.append(word)
        self._check(found)
        return values, found

    def _option(self, word: str, words: list[str], values: dict[str, str]) -> None:
        written, equals, value = word.partition("=")
        if written not in self.options and not word.startswith("--"):
            written, equals, value = word[:2], "", word[2:]
        name = self.options.get(written)
        if name is None:
            raise UsageError(f"No such option: {written}")
        if name.startswith("!"):
            if equals or value:
                raise UsageError(f"Option '{written}' does not take a value.")
            values[name[1:]] = "yes"
            return
        if not equals and not value:
            if not words:
                raise UsageError(f"Option '{written}' requires an argument.")
            value = words.pop(0)
        values[name] = value

    def _check(self, found: list[str]) -> None:
        endless = bool(self.arguments) and self.arguments[-1].endswith("*")
        wanted = len(self.arguments) - endless
        if len(found) < wanted:
            raise UsageError(f"Missing argument '{self.arguments[len(found)].upper()}'.")
        if len(found) > wanted and not endless:
            extra = found[wanted:]
            plural = "s" if len(extra) > 1 else ""
            raise UsageError(f"Got unexpected extra argument{plural} ({' '.join(extra)})")

    def _usage(self) -> str:
        words = [argument.rstrip("*").upper() for argument in self.arguments]
        listed = "".join(f"  {spelling}\n" for spelling in self.options)
        return f"Usage: {' '.join([self.path, '[OPTIONS]', *words])}\n\nOptions:\n{listed}  --help\n"

    def complain(self, error: UsageError) -> int:
        """Say what is wrong, as click does; returns the exit status."""
        usage = self._usage().partition("\n")[0]
        sys.stderr.write(f"{usage}\nTry '{self.path} --help' for help.\n\nError: {error}\n")
        return 2


def integer(values: dict[str, str], name: str, default: int) -> int:
    """An option of click's type ``int``. Raises :class:`UsageError`."""
    text = values.get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"Invalid value for '--{name}': {text!r} is not a valid integer.") from None
