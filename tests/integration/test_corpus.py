"""The emulator's benchmark on a program that is there: setuptools' launcher."""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchmarks import emulator
from benchmarks.corpus import fetching
from benchmarks.corpus.programs import Package, Program
from tests.programs import launcher


def test_a_real_program_is_run_as_the_product_does(tmp_path: Path) -> None:
    """The launcher gets past its start-up and ends; a text is refused."""
    files = {"cli-64.exe": launcher(64).read_bytes(), "text.exe": b"no program"}
    package = Package(manager="pip", name="setuptools", version="0")
    corpus = []
    for name, content in files.items():
        sha256 = hashlib.sha256(content).hexdigest()
        program = Program(package=package, file=name, sha256=sha256, bits=64, kind="msvc")
        fetching.path_of(program, tmp_path).write_bytes(content)
        corpus.append(program)
    assert emulator.obtain(corpus, tmp_path) == corpus
    ran, refused = emulator.run(corpus, tmp_path)
    assert (ran.verdict, ran.past_start_up, ran.traceback) == ("ended", True, "")
    assert ran.calls > 20
    assert ran.seconds > 0
    assert (refused.verdict, refused.past_start_up) == ("refused", False)
