"""Programs that the sample starts: what it wrote itself is emulated after it, one after the other."""

from __future__ import annotations

import ntpath
from typing import Any

from speakeasy import Win32Emulator
from speakeasy.profiler import Run

from drakcelery.engines.speakeasy_guest.apis.api import PAGE
from drakcelery.engines.speakeasy_guest.calling.stdcall import API_SETS
from drakcelery.engines.speakeasy_guest.configuration import SYSTEM_FOLDER
from drakcelery.engines.speakeasy_guest.machine import memory
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI
from drakcelery.engines.speakeasy_guest.machine.disk import Disk, Files
from drakcelery.engines.speakeasy_guest.machine.sections import Sections
from drakcelery.engines.speakeasy_guest.naming import without_width
from drakcelery.engines.speakeasy_guest.programs.hollowing import Hollows
from drakcelery.engines.speakeasy_guest.programs.images import bits_of, is_export
from drakcelery.engines.speakeasy_guest.programs.libraries import PROCESS_ATTACH, Libraries, callbacks
from drakcelery.engines.speakeasy_guest.programs.library_image import Loaded, Unloadable
from drakcelery.engines.speakeasy_guest.programs.starting import Started, followed, program_of

MAX_CHILDREN = 8
"""Programs that a sample drops and starts are emulated too, up to this number."""

BEHIND_SETS = ("kernel32", "advapi32", "user32")
"""Libraries that have the functions of API sets (``api-ms-win-core-…``)."""

MAX_BATCH = 64 * 1024
"""Bytes of a batch file that are read."""

MAX_TOLD = 4
"""Programs that were not emulated are named in the reason up to this number."""


class WithProcesses(Win32Emulator):  # type: ignore[misc]  # the base has no types
    """Speakeasy's Windows with a file system and programs of ours.

    Attributes:
        disk: its files.
        libraries: DLLs of the program's own that are loaded.
        hollows: processes that it started suspended.
        id_lists: folders of the shell, by the address of what stands for each.
        added_headers: what a request is to be sent with, by its handle.
        searches: what is left of each search for files, by its handle.
        snapshots: lists of processes, threads and modules, and how far each was read, by handle.
        sections: files in memory.
        not_followed: programs that the sample wrote and started and that are not emulated, with the reason.
    """

    recorder: Any

    def __init__(self, config: dict[str, Any], **more: Any) -> None:
        super().__init__(config, **more)
        self.fileman = Files(self.config, self)
        self.disk = Disk(self)
        self.libraries = Libraries(self)
        self.hollows = Hollows(self)
        self.searches: dict[int, list[Any]] = {}
        self.added_headers: dict[int, str] = {}
        self.id_lists: dict[int, str] = {}
        self.snapshots: dict[int, Any] = {}
        self.sections = Sections(self)
        self.not_followed: list[str] = []
        self.parents: dict[int, int] = {}
        self._children = 0
        self._starts: dict[int, tuple[Started, str]] = {}

    def original(self, dll: str, name: str, argv: list[Any]) -> Any:
        """What Speakeasy itself answers to a call."""
        module, handler = self.api.get_export_func_handler(dll, name)
        if handler is None:
            module, handler = self.normalize_import_miss(dll, name)
        return handler[1](module, self, argv, {"func_name": f"{dll}.{name}"})

    def normalize_import_miss(self, dll: str, name: str) -> tuple[Any, Any]:
        """Speakeasy's handler for a function that it has elsewhere, or under another name.

        Of an API set it looks for names that end in A or W in a library of the set's name only.
        """
        found: tuple[Any, Any] = super().normalize_import_miss(dll, name)
        if found[1] is None and dll.lower().startswith(API_SETS):
            for library in BEHIND_SETS:
                for known in dict.fromkeys((name, without_width(name))):
                    found = self.api.get_export_func_handler(library, known)
                    if found[1] is not None:
                        return found
        return found

    def init_processes(self, processes: list[dict[str, Any]]) -> None:
        """The processes that Windows has; Speakeasy lists them by other numbers than it opens them by."""
        super().init_processes(processes)
        for process in self.processes:
            process.set_id(process.get_pid())

    def create_process(
        self,
        path: str | None = None,
        cmdline: str | None = None,
        image: Any = None,
        child: bool = False,  # noqa: ARG002  # Speakeasy's signature; it would emulate whatever is a child
        folder: str = "",
    ) -> Any:
        """Start a program; what of it lies in the emulated file system is emulated after this one."""
        path = (path or "").strip().strip('"')
        line = cmdline or path
        program = path or program_of(line, self.written)[0]
        found = self.written(program) or self.written(f"{program}.exe")
        process = self._new_process(found or self.locate(program), line, image)
        folder = self.disk.full(folder) if folder else self.get_cd()
        if found is not None and not found.lower().endswith((".bat", ".cmd")):
            self._queue(process, Started(path=found, command_line=line), folder)
            return process
        text = line if not path or program_of(line, self.written)[0] == path else f'"{path}" {line}'
        for started in list(followed(text, self.written, self._read))[:MAX_CHILDREN]:
            self._start_through(process, started, folder)
        return process

    def _start_through(self, process: Any, started: Started, folder: str) -> None:
        """What a shell or a loader of DLLs starts; a DLL runs in its loader's own process."""
        if started.container:
            self._queue(process, started, folder)
            return
        inner = self._new_process(started.path, started.command_line, None)
        self.parents[inner.get_id()] = process.get_id()
        self.recorder.log_process_event(None, inner, "create", {})
        self._queue(inner, started, folder)

    def _new_process(self, path: str, line: str, image: Any) -> Any:
        process = super().create_process(f'"{path}"', line, image, child=False)
        self.processes.remove(process)
        if self.curr_process is not None:
            self.parents[process.get_id()] = self.curr_process.get_id()
        return process

    def replace_program(self, process: Any, data: bytes) -> None:
        """Another program was put into a process before it ran: that is emulated in its place."""
        if process in self.child_processes and bits_of(data) == self.get_ptr_size() * 8:
            process.pe_data = data
            return
        path, line = process.get_process_path(), process.get_command_line()
        self._queue(process, Started(path=path, command_line=line or path), self.get_cd(), data)

    def _queue(self, process: Any, started: Started, folder: str, data: bytes | None = None) -> None:
        """Emulate a program after this one, or note why not."""
        data = data or self.get_module_data_from_emu_file(started.path) or b""
        bits = bits_of(data)
        why = ""
        if bits == 0:
            why = "it is no program for x86 or x64"
        elif bits != self.get_ptr_size() * 8:
            why = f"it is a program of {bits} bits, started by one of {self.get_ptr_size() * 8}"
        elif self._children >= MAX_CHILDREN:
            why = f"it is not among the first {MAX_CHILDREN}"
        if why:
            self.not_followed.append(
                f"{ntpath.basename(started.path)}, which it wrote and started, is not emulated: {why}"
            )
            del self.not_followed[MAX_TOLD:]
            return
        self._children += 1
        process.pe_data = data
        self._starts[process.get_id()] = started, folder
        self.child_processes.append(process)

    def run_module(self, module: Any, all_entrypoints: bool = False, emulate_children: bool = False) -> None:
        """Run the sample, then what it has started, in that order."""
        super().run_module(module, all_entrypoints, emulate_children=False)
        while emulate_children and self.child_processes:
            self._run_child(self.child_processes.pop(0), all_entrypoints)

    def _run_child(self, child: Any, all_entrypoints: bool) -> None:
        started, folder = self._starts[child.get_id()]
        name = ntpath.basename(started.path)
        child.path = f"{SYSTEM_FOLDER}{started.container}" if started.container else started.path
        self.set_cd(ntpath.dirname(started.path).rstrip("\\") + "\\")
        try:
            child.pe = self.load_module(name, child.pe_data, first_time_setup=False)
            needed = self._bound(child)
        except MemoryError:
            raise
        except Unloadable as error:
            self.not_followed.append(
                f"{name}, which it wrote and started, lacks a library (error {error.code})"
            )
            return
        except Exception as error:  # noqa: BLE001  # the file may be anything
            self.not_followed.append(f"{name}, which it wrote and started, cannot be loaded: {error}"[:200])
            return
        finally:
            self.set_cd(folder.rstrip("\\") + "\\")
        child.cmdline = self.command_line = started.command_line
        for library in needed:
            self._queue_attach(library)
        self.prepare(child.pe, started.export, all_entrypoints)
        self.curr_process = child
        self.curr_process.base = child.pe.base
        self.curr_thread = child.threads[0]
        self.om.objects[self.curr_thread.address] = self.curr_thread
        self.start()

    def _bound(self, child: Any) -> list[Loaded]:
        """The libraries that a program which is loaded brings along."""
        self.curr_process = child
        memory.dump_image(
            self, child.pe, reason="Program that the program wrote", method="NtCreateUserProcess"
        )
        return self.libraries.bind(child.pe)

    def _queue_attach(self, library: Loaded) -> None:
        """Have ``DllMain`` run before the program does."""
        library.attached = library.runs
        image = library.image
        for address in (*callbacks(image), *((image.entry,) if image.entry and library.runs else ())):
            run = Run()
            run.type = f"dll_entry.{image.get_base_name()}"
            run.start_addr = address
            run.args = [image.base, PROCESS_ATTACH, 1]
            self.add_run(run)

    def prepare(self, module: Any, export: str, all_entrypoints: bool) -> bool:
        """Queue the entry point, and *export* after it; False if there is none of that name."""
        super().prepare_module_for_emulation(module, all_entrypoints)
        if not module.ep and not module.is_exe():  # a library without DllMain
            self.run_queue[:] = [run for run in self.run_queue if run.start_addr != module.base]
        if not export:
            return True
        found = next((item for item in module.get_exports() if is_export(item, export)), None)
        address = 0 if found is None else self.libraries.binding.place_of(found)
        if not address:
            return False
        run = Run()
        run.type = f"export.{export}"
        run.start_addr = address
        text = self.mem_map(PAGE, tag="emu.export_command_line")
        run.args = [0, module.base, text, 1]  # rundll32: hwnd, hinst, lpszCmdLine, nCmdShow
        self.add_run(run)
        return True

    def get_module_data_from_emu_file(self, file_path: str) -> bytes | None:
        """The content of an emulated file; Speakeasy's own fails for a file without any."""
        file = self.disk.find(file_path)
        return self.disk.read(file, 0, self.disk.size(file)) if file is not None else None

    def locate(self, program: str) -> str:
        """Where a program lies that was named without a folder: where it is found, else with Windows."""
        return program if "\\" in program else self.written(program) or f"{SYSTEM_FOLDER}{program}"

    def written(self, path: str) -> str | None:
        """The whole path of a file of the program's own; none of those that Windows has."""
        if not path or len(path) > 1024:
            return None
        files = self.get_file_manager()
        for folder in ("", ntpath.dirname(getattr(self.curr_process, "path", "") or "")):
            full = self.disk.full(ntpath.join(folder, path) if folder else path)
            if (file := files.get_file_from_path(full)) is not None and not file.config:
                return str(file.get_path())
        return None

    def _read(self, path: str) -> str:
        return (self.get_module_data_from_emu_file(path) or b"")[:MAX_BATCH].decode(ANSI, "replace")
