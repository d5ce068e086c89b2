"""One slot's guest: restored, made ready, given its sample, destroyed; through drakrun and xl."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from drakcelery.engines.drakvuf import commands, ipv6
from drakcelery.engines.drakvuf.base_lines import BaseLines
from drakcelery.engines.drakvuf.cell import Cell
from drakcelery.engines.drakvuf.execution import DEFENDED, windows_error
from drakcelery.engines.drakvuf.network import Network
from drakcelery.engines.drakvuf.tool_output import printable, quoted
from drakcelery.engines.drakvuf.tools import Finished, Overdue, Tools
from drakcelery.errors import Blame, EngineError

if TYPE_CHECKING:
    from drakcelery.settings import DrakrunSection, DrakvufSection

log = structlog.get_logger(__name__)

XL_SECONDS = 15.0
"""For ``xl list``, which only asks. This and the next are bounded by ``tool_timeout`` as well."""

STOP_SECONDS = 60.0
"""For ``drakrun vm-stop``."""

STOP_TRIES = 3
STOP_PAUSE = 1.0
"""Seconds between two tries; a domain that is dying may need them."""

DESTROY_SECONDS = 10 + XL_SECONDS + STOP_TRIES * (STOP_PAUSE + STOP_SECONDS + XL_SECONDS)
"""The longest that :meth:`Guest.destroy` takes."""

INTERFACES = Path("/sys/class/net")
"""The network interfaces of this machine, by name."""

READY_TRIES = 2
"""A guest that has just been restored may not answer at once; drakrun itself then injects drakshell again."""

NETWORK_KEYS = ("net_enable", "out_interface", "dns_server", "gateway_address")
"""What matters in ``vmnet-N.json``, where DRAKVUF Sandbox writes which network it made."""

OLD_POWERSHELL = (
    "PowerShell 2.0, as Windows 7 has it, may hang so: update it, or set [drakvuf] post_restore = 0"
)

HELP = "put one there, or set [drakvuf] post_restore = 0"


@dataclass(frozen=True, kw_only=True)
class Guest:
    """The guest ``vm-<number>`` of :attr:`cell`."""

    number: int
    cell: Cell
    tools: Tools
    section: DrakvufSection
    network: Network
    base_lines: BaseLines | None = None
    """The base command lines that were asked for already."""

    @property
    def name(self) -> str:
        """As Xen and DRAKVUF Sandbox call it."""
        return f"vm-{self.number}"

    def restore(self, holder: str) -> None:
        """Restore the VM from its snapshot, if its network keeps it in. Raises :class:`EngineError`."""
        command = commands.vm_start(self.section.drakrun, self.number)
        with self.network.entrance(lambda: self.cell.check(holder)):
            done = self._run(command, holder, seconds=self.section.restore_timeout)
        if done.code != 0:
            trouble = done.trouble(f"{self.name} could not be restored")
            self.network.suspect(str(trouble))
            raise trouble
        if self.is_alive() is False:
            raise EngineError(f"{self.name} is not there after {done.name}{quoted(done.errors)}")
        ipv6.close(commands.bridge(self.number))
        self.check_isolation(holder)

    def check_isolation(self, holder: str) -> None:
        """Raises :class:`EngineError` if this guest is not kept from the host and from other guests."""
        try:
            self.network.verify(commands.bridge(self.number), closed=not self._has_network())
        except EngineError:
            self.cell.check(holder)  # if another process ended the guest, its rules are gone
            raise

    def _has_network(self) -> bool:
        try:
            return json.loads(self._noted_network.read_bytes())["net_enable"] is True
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def check_network(self, drakrun: DrakrunSection, *, net_enable: bool) -> None:
        """Compare the network that the guest got with the one that the settings and the task ask for.

        A sample must not reach the Internet because two files disagree.

        Raises:
            EngineError: they differ; names file and key.
        """
        try:
            network = json.loads(self._noted_network.read_bytes())
            got = {key: network[key] for key in NETWORK_KEYS}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EngineError(
                f"{self._noted_network}: cannot tell which network {self.name} got: {error}"
            ) from None
        dns = got["gateway_address"] if drakrun.dns_server == "use-gateway-address" else drakrun.dns_server
        wanted: dict[str, object] = {"net_enable": net_enable}
        if net_enable:
            wanted |= {"dns_server": dns}
            wanted |= {"out_interface": drakrun.out_interface} if drakrun.out_interface else {}
        for key, value in wanted.items():
            if got[key] != value:
                raise EngineError(
                    f"{self.name} got a network with {key} = {printable(str(got[key]))}, and [drakrun] {key} "
                    f"asks for {value}; DRAKVUF Sandbox before v0.21 reads it in [network] of "
                    f"{self.section.etc_dir}/config.toml: make the two agree"
                )

    def make_ready(self, holder: str, script: Path | None, *, net_enable: bool) -> None:
        """Run the post-restore script in the guest, which also shows that the guest answers.

        Raises:
            EngineError: it does not, or the script fails.
        """
        if script is None:
            raise EngineError(f"there is no {self.section.etc_dir}/vm-post-restore.ps1: {HELP}")
        try:
            text = script.read_text(encoding="utf-8-sig")
            command = commands.post_restore(text, net_enable=net_enable, now=datetime.now())  # noqa: DTZ005 the guest's clock shows local time
        except (OSError, ValueError) as error:
            raise EngineError(f"{script}: {error}") from None
        line = commands.drakshell(self.section.drakrun, self.number, command)
        for _ in range(READY_TRIES):
            try:
                done = self._run(line, holder, held_open=True)
            except Overdue as error:
                raise EngineError(f"{error}; {OLD_POWERSHELL}") from None
            if done.code == 0:
                break
        if done.code != 0:
            raise done.trouble(f"{self.name} does not answer")
        code = commands.parse_exit_code(done.said)
        if code != 0:
            how = "did not say how it ended" if code is None else f"ended with exit code {code}"
            raise EngineError(f"{script} {how} in {self.name}{quoted(done.errors)}")

    def copy_in(self, holder: str, sample: Path) -> str:
        """Copy *sample* to the guest's desktop; returns its path there. Raises :class:`EngineError`."""
        if self.number < 10:  # drakrun reads one digit only: vm-12 would be vm-2
            command = commands.injector_copy(self.section.drakrun, self.number, sample, sample.name)
        else:
            base = self.base_command_line(holder, "cmd.exe")
            command = commands.injector_writefile(self.section.injector, base, sample, sample.name)
        done = self._run(command, holder)
        path = commands.parse_guest_path(done.output)
        if done.code != 0 or path is None:
            said = printable(done.output.strip())[:300]
            answer = f"; its answer: {said}" if said else "; it printed no record"
            what = f"{sample.name} could not be copied into {self.name}"
            code = windows_error(commands.parse_record(f"{done.output}\n{done.said}"))
            blames = Blame.SNAPSHOT if code in DEFENDED else Blame.SLOT
            raise EngineError(f"{done.trouble(what)}{answer}", blames=blames, code=code)
        return path

    def base_command_line(
        self, holder: str, command: str, *, method: str | None = None, directory: str | None = None
    ) -> Sequence[str]:
        """DRAKVUF's command line that starts *command* in the guest. Raises :class:`EngineError`."""

        def ask(asked: str, of: str | None) -> Sequence[str]:
            return self._ask_base_command_line(holder, asked, method=method, directory=of)

        if self.base_lines is None:
            return ask(command, directory)
        return self.base_lines.line(ask, self.name, command, method=method, directory=directory)

    def _ask_base_command_line(
        self, holder: str, command: str, *, method: str | None, directory: str | None
    ) -> Sequence[str]:
        drakrun = self.section.drakrun
        line = commands.base_command_line(drakrun, self.number, command, method=method, directory=directory)
        done = self._run(line, holder)
        if done.code != 0:
            raise done.trouble("there is no command line for DRAKVUF")
        try:
            return commands.parse_base(done.output, self.number)
        except ValueError as error:
            raise EngineError(f"{done.name} printed {printable(done.output[:300])!r}: {error}") from None

    def is_alive(self) -> bool | None:
        """Whether Xen has the guest; None if Xen does not say."""
        try:
            command = commands.xl_list(self.section.xl, self.number)
            seconds = min(XL_SECONDS, self.section.tool_timeout)
            done = self.tools.run(command, seconds=seconds, quiet=True)
        except EngineError as error:
            log.warning("xen_does_not_answer", error=str(error))
            return None
        listed = commands.is_listed(done.code, done.said)
        if listed is None:
            log.warning("xen_does_not_answer", error=str(done.trouble("xl list")))
        return listed

    def destroy(self) -> None:
        """Kill what was started for the guest, end it, and check that it is gone. Cheap if there is nothing
        to end.

        Its network must go, too, or the slot is not clean: the next vm-start would fail because of it.

        Raises:
            EngineError: the guest or its network is still there, or Xen does not say that the guest is gone.
        """
        with self.cell.locked():
            was_held = self.cell.vacate()
            alive = self.is_alive()
            if alive is False and not was_held and not self._noted_network.exists():
                return
            trouble = ""
            for attempt in range(STOP_TRIES):
                if attempt:
                    time.sleep(STOP_PAUSE)
                trouble = self._stop()
                alive = self.is_alive()
                if alive is False and not self._noted_network.exists():
                    self._drop_bridge()
                    log.info("guest_ended", slot=self.name, tries=attempt + 1, trouble=trouble or None)
                    return
            if alive is False:
                raise EngineError(
                    f"{self.name} is gone, and {self._noted_network} says that its network is not, after "
                    f"{STOP_TRIES} times drakrun vm-stop{trouble}"
                )
            what = "lives on" if alive else "may live on, since Xen does not answer,"
            raise EngineError(
                f"{self.name} {what} after {STOP_TRIES} times drakrun vm-stop{trouble}; "
                f"see xl list, and end it: xl destroy {self.name}"
            )

    def _stop(self) -> str:
        """Run ``drakrun vm-stop`` once; returns what it complained of."""
        command = commands.vm_stop(self.section.drakrun, self.number)
        try:
            done = self.tools.run(
                command, seconds=min(STOP_SECONDS, self.section.tool_timeout), cell=self.cell
            )
        except EngineError as error:
            return f"; {error}"
        return "" if done.code == 0 else f"; {done.trouble('the last one')}"

    def _drop_bridge(self) -> None:
        """Delete a bridge that DRAKVUF Sandbox has not noted, or the next ``vm-start`` cannot make it.

        A ``vm-start`` that is killed before it notes the network leaves one, which ``vm-stop`` does not
        delete.
        """
        bridge = commands.bridge(self.number)
        if not (INTERFACES / bridge).exists() or self._noted_network.exists():
            return
        done = self.tools.run(["ip", "link", "delete", bridge], seconds=XL_SECONDS)
        if done.code != 0:
            log.warning("bridge_stays", error=str(done.trouble(bridge)))

    @property
    def _noted_network(self) -> Path:
        """Where DRAKVUF Sandbox notes which network it made for the VM."""
        return self.section.run_dir / f"vmnet-{self.number}.json"

    def _run(
        self, command: commands.Command, holder: str, *, seconds: float | None = None, held_open: bool = False
    ) -> Finished:
        return self.tools.run(
            command,
            seconds=seconds or self.section.tool_timeout,
            cell=self.cell,
            holder=holder,
            held_open=held_open,
        )
