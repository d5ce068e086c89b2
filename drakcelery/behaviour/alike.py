"""Which texts of two runs mean the same, although a run chose some of their letters by chance. Pure.

A run has its own pids, temporary names, identifiers and times. :func:`plain` takes away only where the system
is installed and how it writes a name; :func:`pattern` also what looks as if it were chosen by chance.
Sources of the forms: GetTempFileName and GetTempPath (Microsoft's documentation), and what Inno Setup, NSIS,
7-Zip, IExpress, PyInstaller and Python's tempfile call their own files.
"""

from __future__ import annotations

import re

SAMPLE, USER = "<sample>", "<user>"
CHANCE = "<*>"
_SHORTEST_NAME = 5
"""Characters of a sample's name that say that it is meant."""
_ANY_CASE = re.IGNORECASE | re.ASCII
_PLACE = re.compile(
    r"\\\?\?\\|\\\\\?\\|\\device\\harddiskvolume\d+(?=\\)|\\registry\\(?=machine\\|user\\)|\b[a-z]:(?=\\)"
)
_USERS_FOLDER = re.compile(r"(?<=\\users\\)(?!(?:public|default|all users)\\)[^\\/:*?\"<>|]{1,64}(?=\\)")
"""Whose it is: profiles of VMs have users of other names."""
_GUID = re.compile(r"\{?(?<![0-9a-z])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![0-9a-z])\}?", _ANY_CASE)
_SID = re.compile(r"\bs-1-5-21(?:-\d+){3,4}\b", _ANY_CASE)
_TIME = re.compile(r"(?<!\d)(?:\d{1,4}[-/]\d{1,2}[-/]\d{1,4}|\d{1,2}:\d\d(?::\d\d)?)(?!\d)")
_TEMPORARY = re.compile(
    r"(?<![^\\/])(?:~?[a-z~]{0,3}[0-9a-f]{1,8}\.tmp|is-[a-z0-9]{5}(?:\.tmp)?|ns[a-z][0-9a-f]{1,5}\.tmp"
    r"|7z[so][0-9a-f]{8}|ixp\d{3}\.tmp|_mei\d+|tmp[a-z0-9_]{8})(?![^\\/\"' .])",
    _ANY_CASE,
)
_WORD = re.compile(r"[0-9a-z]+", _ANY_CASE)
_CONSONANTS = re.compile(r"[bcdfghjklmnpqrstvwxz]{5}", _ANY_CASE)
_LONGEST_NUMBER = 2
"""Digits of a number that is no pid and no other number of chance."""
_SHORTEST_MIX = 5
"""Characters of a word of chance with digits in it."""


def plain(text: str, sample: str) -> str:
    """*text* in lower case, without drive and device, *sample* and the user by other names."""
    given = _USERS_FOLDER.sub(USER, _PLACE.sub("", text.lower()))
    name = sample.lower()
    return given.replace(name, SAMPLE) if len(name) >= _SHORTEST_NAME else given


def pattern(text: str) -> str:
    """A text without what may be chance: identifiers, times, temporary names, random words."""
    for form in (_GUID, _SID, _TIME, _TEMPORARY):
        text = form.sub(CHANCE, text)
    return _WORD.sub(lambda word: CHANCE if _is_chance(word[0]) else word[0], text)


def _is_chance(word: str) -> bool:
    digits = sum(char.isdigit() for char in word)
    if digits == len(word):
        return digits > _LONGEST_NUMBER
    if word[:2] in ("0x", "0X"):
        return True
    if digits:
        return digits > _LONGEST_NUMBER or (digits > 1 and len(word) >= _SHORTEST_MIX)
    return _CONSONANTS.search(word) is not None
