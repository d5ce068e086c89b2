"""What ``make xen`` makes and reads on this side of its machine; the checks themselves run in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.xen.real import __main__ as runner
from tests.xen.real import image, packages

CONSOLE = """\
== dom0 41
tests/xen/real/checks.py::test_one PASSED                 [ 50%]
tests/xen/real/checks.py::test_two[destroy 0] FAILED      [100%]
== end 1
"""


def test_the_console_says_how_the_checks_went() -> None:
    """Each check has its verdict; without the end, or without a check, nothing has passed."""
    failed = runner.judge(CONSOLE, 1)
    assert failed.checks == {"test_one": "PASSED", "test_two[destroy 0]": "FAILED"}
    assert not failed.passed
    assert runner.judge(CONSOLE.replace("end 1", "end 0"), 1).passed
    assert not runner.judge(CONSOLE.partition("== end")[0], 1).passed
    assert not runner.judge("== end 0\n", 1).passed


def test_the_archive_is_what_the_kernel_unpacks(tmp_path: Path) -> None:
    """Names, kinds, modes, contents and links, each part on a boundary of four bytes."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "a").write_bytes(b"text.")
    (tmp_path / "bin" / "a").chmod(0o755)
    (tmp_path / "b").symlink_to("bin/a")
    data, found, at = image.archive(tmp_path), {}, 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = data[at + 110 : at + 109 + fields[11]].decode()
        content = at + 110 + fields[11] + (-(110 + fields[11])) % 4
        if name == "TRAILER!!!":
            break
        found[name] = (oct(fields[1]), data[content : content + fields[6]])
        at = content + fields[6] + -fields[6] % 4
    modes = {name: oct(os.lstat(tmp_path / name).st_mode) for name in ("bin", "bin/a", "b")}
    assert found == {
        "bin": (modes["bin"], b""),
        "bin/a": (modes["bin/a"], b"text."),
        "b": (modes["b"], b"bin/a"),
    }


def test_without_the_packages_it_is_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence names what to install; --needed makes a failure of it."""
    monkeypatch.setattr(runner, "QEMU", "qemu-that-is-not-there")
    monkeypatch.setattr("sys.argv", ["xen"])
    assert runner.main() == 0
    assert "make xen is skipped: qemu-that-is-not-there is not installed" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["xen", "--needed"])
    assert runner.main() == 1
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(packages.Missing, match="apt-get install libc-bin"):
        packages.find("ldd")
