"""The command that hands samples in.

What it works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drakcelery.cli.options import json_option, read_settings, with_settings
from drakcelery.cli.waiting import INTERRUPTED, end, follow, hint
from drakcelery.cli.wishes import with_wishes
from drakcelery.errors import DrakceleryError
from drakcelery.model.states import Priority

if TYPE_CHECKING:
    from drakcelery.operators.submitting.archives import Passwords
    from drakcelery.operators.submitting.found import Found, Refused
    from drakcelery.operators.submitting.submission import Pushed, Submission
    from drakcelery.settings import Settings

SOME_REFUSED = 3
"""Exit status where some samples were refused, and all went well with the others."""
STDIN = "-"
PIECE = 1024**2
LONGEST_PASSWORD = 4096


def _age(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    """The seconds that an option means."""
    if text is None:
        return None
    from drakcelery.model.reuse import parse_age

    try:
        return parse_age(text)
    except ValueError as error:
        raise click.BadParameter(f"expected {error}") from None


@click.command(
    epilog="\b\nExamples:\n"
    "  drakcelery submit invoice.exe\n"
    "  drakcelery submit ./samples '*.dll' infected.zip --wait\n"
    "  curl -s https://example.org/x | drakcelery submit - --name x.js"
)
@click.argument(
    "samples", metavar="SAMPLE...", nargs=-1, required=True, type=click.Path(allow_dash=True, path_type=str)
)
@click.option("--name", metavar="NAME", help="What the sample on standard input is called.")
@click.option(
    "--platform",
    type=click.Choice(["win32", "win64", "auto"]),
    default="auto",
    show_default=True,
    help="Windows to run on; auto reads the PE header.",
)
@with_wishes()
@click.option(
    "--priority",
    type=click.Choice([one.value for one in Priority]),
    default=Priority.NORMAL.value,
    show_default=True,
    help="Karton's priority.",
)
@click.option(
    "--reuse",
    metavar="AGE",
    callback=_age,
    help="Take an analysis of the same sample, run in the same way, that is no older: 3600, 12h, 7d.  "
    "[default: run it]",
)
@click.option(
    "--unzip/--no-unzip",
    default=None,
    help="Take the files in a zip for the samples, or the zip.  [default: unzip unless --start-command]",
)
@click.option(
    "--zip-password-file",
    "password_file",
    type=click.File("rb"),
    metavar="FILE",
    help="File with the password of zips; infected is tried first.  [default: asked for, on a terminal]",
)
@click.option("--wait", is_flag=True, help="Show progress until all analyses are over; fail if one fails.")
@json_option
@with_settings
def submit(
    samples: tuple[str, ...],
    name: str | None,
    unzip: bool | None,
    password_file: Any,
    wait: bool,
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
    **wishes: Any,
) -> None:
    """Push samples into Karton and print the uids of their analyses, one a line.

    SAMPLE is a file, a folder (all files in it and below it, but for hidden ones and links), a pattern such
    as 'x/**/*.exe', a zip, whose files are the samples, or `-`, standard input. What the settings or the
    fleet cannot take is refused before it is uploaded; the others are handed in all the same.

    Exits with 1 if nothing was handed in, or with --wait one analysis was not published; with 3 if some were
    refused.
    """
    if name is not None and STDIN not in samples:
        raise click.UsageError("--name is for the sample on standard input: `-`")
    ours = read_settings(config, data_dir)
    passwords = _passwords(password_file, may_ask=STDIN not in samples)
    submission = _submission(ours, wishes, unzip=unzip, passwords=passwords)
    with _meant(samples, name, ours.drakcelery.max_sample_size) as found:
        done = _Done(found, as_json=as_json)
        done.push(submission)
    try:
        done.require_some()
        if wait:
            _wait(ours, done)
    finally:
        done.print_json()
    if done.refused:
        click.echo(f"{len(done.refused)} of {done.count} samples were refused", err=True)
        raise click.exceptions.Exit(SOME_REFUSED)


def _submission(
    ours: Settings, options: Mapping[str, Any], *, unzip: bool | None, passwords: Passwords
) -> Submission:
    """How the options say that samples are handed in. Raises :class:`DrakceleryError` if none can be."""
    from drakcelery.karton.kept import Wishes
    from drakcelery.operators.submitting.submission import Submission
    from drakcelery.wiring import make_ledger

    wishes = Wishes(
        **{
            **options,
            "plugins": tuple(options["plugins"]),
            "platform": None if options["platform"] == "auto" else options["platform"],
            "priority": Priority(options["priority"]),
        }
    )
    opens = wishes.start_command is None if unzip is None else unzip
    return Submission.begin(ours, make_ledger(ours), wishes, unzip=opens, passwords=passwords)


def _wait(ours: Settings, done: _Done) -> None:
    """Raises :class:`DrakceleryError` if one of the analyses is not published."""
    names = {one.uid: one.name for one in done.pushed}
    look = follow(ours, list(names), names)
    done.records = {uid: one.model_dump(mode="json") for uid, one in look.records.items()}
    end(ours, look, list(names), names)


class _Done:
    """What became of the samples, told as it happens, or at the end as JSON."""

    def __init__(self, found: Sequence[Found | Refused], *, as_json: bool) -> None:
        self._found = found
        self._as_json = as_json
        self.pushed: list[Pushed] = []
        self.refused: list[Refused] = []
        self.records: dict[str, Any] = {}
        """As JSON, by uid, of those that were waited for."""

    @property
    def count(self) -> int:
        """How many samples there were."""
        return len(self.pushed) + len(self.refused)

    def push(self, submission: Submission) -> None:
        """Hand them in. After an error that concerns all, or Ctrl-C, it says how far it came."""
        try:
            for one in submission.push(self._found):
                self._note(one)
        except KeyboardInterrupt:
            self.print_json()
            click.echo(hint([one.uid for one in self.pushed]), err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
        except BaseException:
            self.print_json()
            if self.pushed:
                click.echo(f"{len(self.pushed)} samples were handed in before this:", err=True)
            raise

    def _note(self, one: Pushed | Refused) -> None:
        from drakcelery.model.text import printable
        from drakcelery.operators.submitting.found import Refused

        if isinstance(one, Refused):
            self.refused.append(one)
            if not self._is_all(one):
                click.echo(printable(f"Refused {one.label}: {one.reason}"), err=True)
            return
        self.pushed.append(one)
        if not self._as_json:
            click.echo(one.uid)

    def _is_all(self, one: Refused) -> bool:
        """Whether that is all that was given: then it is the error of the command."""
        return len(self._found) == 1 and one.label == self._found[0].label

    def require_some(self) -> None:
        """Raise :class:`DrakceleryError` if nothing was handed in."""
        if self.pushed:
            return
        if len(self.refused) == 1 and self._is_all(self.refused[0]):
            raise DrakceleryError(self.refused[0].sentence)
        many = len(self.refused)
        raise DrakceleryError(
            "nothing was handed in" if many == 1 else f"none of {many} samples was handed in"
        )

    def print_json(self) -> None:
        """The JSON, if that is what was asked for."""
        if not self._as_json:
            return
        pushed = [
            {
                "uid": one.uid,
                "sample": one.label,
                "name": one.name,
                "sha256": one.sha256,
                "size": one.size,
                "analysis": self.records.get(one.uid),
            }
            for one in self.pushed
        ]
        refused = [{"sample": one.label, "reason": one.reason} for one in self.refused]
        click.echo(json.dumps({"analyses": pushed, "refused": refused}, indent=2))


@contextmanager
def _meant(words: tuple[str, ...], name: str | None, largest: int) -> Iterator[list[Found | Refused]]:
    """The files that are meant; what comes from standard input is in one for as long as the block lasts."""
    from drakcelery.operators.submitting import found

    meant = list(found.find(tuple(word for word in words if word != STDIN)))
    with tempfile.TemporaryDirectory(prefix="drakcelery-") as directory:
        if STDIN in words:
            meant.append(_from_stdin(Path(directory) / "sample", name or "stdin", largest))
        if len(meant) > found.MOST:
            raise DrakceleryError(
                f"{len(meant)} files are meant; at most {found.MOST} can be handed in at once: name fewer"
            )
        yield meant


def _from_stdin(to: Path, name: str, largest: int) -> Found | Refused:
    from drakcelery.operators.submitting.found import Found, Refused

    size = 0
    with to.open("wb") as file:
        while piece := sys.stdin.buffer.read(PIECE):
            size += len(piece)
            if size > largest:
                return Refused(
                    label=name,
                    reason=f"the sample {name!r} has more than {largest} bytes; no more are accepted "
                    "([drakcelery] max_sample_size)",
                )
            file.write(piece)
    return Found(path=to, name=name, label=name)


def _passwords(file: Any, *, may_ask: bool) -> Passwords:
    """The passwords of zips: from a file, or else from whoever sits at the terminal.

    Never from an argument, which other users see.
    """
    from drakcelery.operators.submitting.archives import Passwords

    if file is not None:
        given = file.readline(LONGEST_PASSWORD).rstrip(b"\r\n")
        return Passwords(given=(given,), remedy=", and the first line of --zip-password-file")
    remedy = ": --zip-password-file FILE gives another"
    return Passwords(ask=ask_password if may_ask and sys.stdin.isatty() else None, remedy=remedy)


def ask_password(zipped: str) -> bytes | None:
    """Ask whoever sits at the terminal; None for an empty answer. Ctrl-C is what it is elsewhere."""
    try:
        answer = click.prompt(
            f"Password of {zipped}", default="", hide_input=True, show_default=False, err=True
        )
    except click.Abort:
        raise KeyboardInterrupt from None
    return str(answer).encode() or None
