"""Who runs the program in the emulated Windows, and who may do what; and programs with many imports."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from drakcelery.engines.speakeasy_guest.naming import USER_SID
from tests.conftest import require
from tests.guest_programs import PREFIXES, said

BITS = pytest.mark.parametrize("bits", [32, 64])


@BITS
def test_who_runs_the_program(tmp_path: Path, bits: int) -> None:
    """The user of the token, the groups and rights; identifiers as text and back."""
    source = r"""
    #include <sddl.h>
    int main(void)
    {
        DWORD room = 0, length, number = 9;
        HANDLE token;
        char *text;
        PSID sid;
        OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token);
        mark(!GetTokenInformation(token, TokenUser, NULL, 0, &room)
             && GetLastError() == ERROR_INSUFFICIENT_BUFFER ? "asked" : "wrong");
        TOKEN_USER *user = LocalAlloc(LMEM_FIXED, room);
        GetTokenInformation(token, TokenUser, user, room, &room);
        mark(ConvertSidToStringSidA(user->User.Sid, &text) ? text : "wrong");
        mark(LocalFree(text) == NULL ? "freed" : "wrong");
        GetTokenInformation(token, TokenElevation, &number, sizeof number, &length);
        mark(number == 1 && length == 4 ? "elevated" : "wrong");
        mark(ConvertStringSidToSidW(L"S-1-5-32-544", &sid)
             && *GetSidSubAuthority(sid, 1) == 544 ? "group" : "wrong");
        TOKEN_GROUPS *groups = LocalAlloc(LMEM_FIXED, 1024);
        GetTokenInformation(token, TokenGroups, groups, 1024, &length);
        mark(groups->GroupCount == 3 && EqualSid(groups->Groups[1].Sid, sid) ? "administrator" : "wrong");
        mark(!ConvertStringSidToSidA("S-1", &sid)
             && GetLastError() == ERROR_INVALID_SID ? "no-sid" : "wrong");
        return 0;
    }
    """
    seen = ["asked", USER_SID, "freed", "elevated", "group", "administrator", "no-sid"]
    assert said(tmp_path, source, bits, "-ladvapi32") == seen


@BITS
def test_a_folder_with_rights_of_its_own(tmp_path: Path, bits: int) -> None:
    """As Inno Setup makes its own: with a descriptor from a text; one that is put together is there, too."""
    source = r"""
    #include <sddl.h>
    int main(void)
    {
        SECURITY_ATTRIBUTES rights = {sizeof rights};
        SECURITY_DESCRIPTOR own;
        mark(ConvertStringSecurityDescriptorToSecurityDescriptorW(L"D:P(A;OICI;GA;;;SY)", SDDL_REVISION_1,
             &rights.lpSecurityDescriptor, NULL) ? "descriptor" : "wrong");
        CreateDirectoryA("C:\\Users\\Public\\is-1.tmp", &rights);
        mark(GetFileAttributesA("C:\\Users\\Public\\is-1.tmp") == FILE_ATTRIBUTE_DIRECTORY
             ? "made" : "wrong");
        mark(InitializeSecurityDescriptor(&own, SECURITY_DESCRIPTOR_REVISION)
             && SetSecurityDescriptorDacl(&own, TRUE, NULL, FALSE) && own.Revision == 1
             && own.Control & SE_DACL_PRESENT ? "own" : "wrong");
        return 0;
    }
    """
    assert [mark for mark in said(tmp_path, source, bits, "-ladvapi32") if mark != "is-1.tmp"] == [
        "descriptor",
        "made",
        "own",
    ]


def test_a_program_with_a_thousand_imports(tmp_path: Path) -> None:
    """Its functions are not taken for those that GetProcAddress gives."""
    library = Path("/usr", PREFIXES[64], "lib/libkernel32.a")
    require(library.exists(), "mingw-w64 is not installed (Debian: mingw-w64)")
    listed = subprocess.run([f"{PREFIXES[64]}-nm", "-g", library], capture_output=True, text=True, check=True)
    names = sorted({line.split()[-1] for line in listed.stdout.splitlines() if " __imp_" in line})[:1200]
    assert len(names) == 1200
    declared = "".join(f"extern void *{name};\n" for name in names)
    source = (
        f"{declared}void **volatile all[] = {{{','.join(f'&{name}' for name in names)}}};\n"
        r"""
    int main(void)
    {
        const char *words[] = {
            "GetTickCount64", "GetCurrentThreadId", "GetACP", "GetOEMCP", "GetCurrentProcessId"};
        HMODULE library = GetModuleHandleA("kernel32");
        DWORD (WINAPI *found[5])(void);
        for (int i = 0; i < 5; i++)
            found[i] = (void *)GetProcAddress(library, words[i]);
        mark(found[1]() == GetCurrentThreadId()
             && found[4]() == GetCurrentProcessId() ? "identity" : "wrong");
        mark(found[2]() == 1252 && found[3]() == 437 ? "pages" : "wrong");
        for (int i = 0; i < 1200; i++)
            for (int k = 0; k < 5; k++)
                if (*all[i] == (void *)found[k]) {
                    mark("the-same");
                    return 0;
                }
        mark("apart");
        return 0;
    }
    """
    )
    assert said(tmp_path, source, 64) == ["identity", "pages", "apart"]
