"""What the lines of a log are made of that say anything at all: keys, methods, values of every type."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Line = dict[str, Any]
KEYS = (
    *("TimeStamp", "PID", "PPID", "ProcessName", "EventUID", "Status", "NewPid", "CommandLine", "ExitPid"),
    *("ExitStatus", "FileName", "FileHandle", "IoStatusBlock", "DesiredAccess", "CreateOptions", "Operation"),
    *("FileSrc", "FileDst", "Key", "ValueName", "Value", "Arguments", "ReturnValue", "DnsName", "RemoteIp"),
    *("RemotePort", "OwnerPID", "DumpFilename", "DumpAddr", "DumpSize", "TargetPID", "RunningProcess"),
    *(
        "ClientID",
        "ProcessHandle",
        "NewProcessHandle",
        "ObjectAttributes",
        "InjectedPid",
        "FileHash",
        "Command",
    ),
    *("OpenOptions", "Object", "Function", "Resource", "Protocol", "Bitness", "Module"),
    *("ExitStatusStr", "ImagePathName", "DumpReason", "TID", "UserName", "Event"),
)
METHODS = (
    *("NtCreateUserProcess", "NtTerminateProcess", "MmCleanProcessAddressSpace", "NtOpenProcess", "other"),
    *(
        "NtCreateFile",
        "NtWriteFile",
        "NtSetInformationFile",
        "NtSetValueKey",
        "NtDeleteKey",
        "CreateServiceW",
    ),
    *("NtOpenFile", "NtDeleteFile", "NtDeleteValueKey", "NtCreateProcessEx", "OpenServiceW", "DeleteService"),
    *(
        "RtlCreateUserThread",
        "WriteProcessMemory",
        "NtCreateThreadEx",
        "DnsQuery_W",
        "ExecQuery",
        "CryptEncrypt",
    ),
    *("StartServiceA", "CreateRemoteThread", "CreateMutexW", "NtCreateMutant", "NtWriteVirtualMemory"),
)
PLUGINS = (
    *("procmon", "filetracer", "regmon", "apimon", "syscall", "socketmon", "memdump", "wmimon", "inject"),
    "fileextractor",
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
    | st.sampled_from(
        ["0x0", "0x4", "4", "1700000000.5", "1e999", "nan", "Success", "FILE_WRITE_DATA", "é\\"]
    )
    | st.sampled_from([0, 4, 8]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
