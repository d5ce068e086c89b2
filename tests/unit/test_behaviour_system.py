"""Registry, services and calls in the report: names that are missing, calls that fail, long texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest_log import Log, reported

KEY = "\\REGISTRY\\MACHINE\\SOFTWARE\\Classes\\CLSID\\{1}\\InprocServer32"


def test_the_value_without_a_name(tmp_path: Path) -> None:
    """It is one like others: that it is set or deleted is not that its key is."""
    log = Log().started()
    log.add("regmon", "NtSetValueKey", Key=KEY, ValueName="", Value="evil.dll")
    log.add("regmon", "NtSetValueKey", Key=KEY, ValueName="(Default)", Value="evil2.dll")
    log.add("regmon", "NtDeleteValueKey", Key=KEY)
    log.add("regmon", "NtDeleteKey", Key=KEY, ValueName="")
    found = reported(log, tmp_path).registry
    assert [(one.action, one.value_name, one.value, one.autostart) for one in found] == [
        ("set", "(Default)", "evil2.dll", "COM server"),
        ("deleted", "(Default)", None, None),
        ("deleted", None, None, None),
    ]


def create_service(log: Log, *, result: str, program: str = "C:\\x.exe") -> None:
    """A call of the sample's, as DRAKVUF writes it."""
    arguments = ["Arg0=0x1", 'Arg1=0x2:"Evil"', *["Arg2=0x0"] * 5, f'Arg7=0x9:"{program}"']
    log.add("apimon", "CreateServiceW", Event="api_called", Arguments=arguments, ReturnValue=result)


@pytest.mark.parametrize("failing", ["CreateServiceW", "StartServiceW", "DeleteService"])
def test_a_call_that_failed(tmp_path: Path, failing: str) -> None:
    """These give 0 then, and nothing was done; the call is counted."""
    log = Log().started()
    create_service(log, result="0x0" if failing == "CreateServiceW" else "0x50")
    if failing != "CreateServiceW":
        log.add("apimon", failing, Event="api_called", Arguments=["Arg0=0x50"], ReturnValue="0x0")
    report = reported(log, tmp_path)
    done = [] if failing == "CreateServiceW" else [("Evil", ("created",))]
    assert [(one.name, one.actions) for one in report.services] == done
    assert failing.removesuffix("W") in {one.function for one in report.calls}


def test_a_long_argument(tmp_path: Path) -> None:
    """Of a text that is longer than what is kept, the ends are: it does not vanish."""
    log = Log().started()
    create_service(log, result="0x50", program="C:\\\\x.exe " + "a" * 5000 + "z")
    [service] = reported(log, tmp_path).services
    program = service.program or ""
    assert (len(program), program[:9], program[-2:]) == (1024, "C:\\x.exe ", "az")
