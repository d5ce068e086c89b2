/* Copies itself to another place, starts the copy, and lets that one write to the registry: what a dropper does,
 * without anything harmful in it. Build line: README.md.
 */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

static char content[65536];
static const char target[] = "C:\\Users\\Public\\drakcelery-dropped.exe";

static BOOL is_child(void)
{
    const char *line = GetCommandLineA();
    return line[lstrlenA(line) - 1] == '!';
}

static void note(void)
{
    HKEY key;
    if (RegOpenKeyExA(HKEY_CURRENT_USER, "Software\\Microsoft\\Windows\\CurrentVersion\\Run", 0, KEY_WRITE, &key))
        return;
    RegSetValueExA(key, "drakcelery-dropped", 0, REG_SZ, (const BYTE *)target, sizeof target);
    RegDeleteValueA(key, "drakcelery-dropped");
    RegCloseKey(key);
}

static void copy_self(void)
{
    char self[MAX_PATH];
    DWORD size = 0, written = 0;
    GetModuleFileNameA(NULL, self, sizeof self);
    HANDLE file = CreateFileA(self, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
    ReadFile(file, content, sizeof content, &size, NULL);
    CloseHandle(file);
    file = CreateFileA(target, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL);
    WriteFile(file, content, size, &written, NULL);
    CloseHandle(file);
}

static void start_copy(void)
{
    char command[] = "C:\\Users\\Public\\drakcelery-dropped.exe child!";
    STARTUPINFOA startup;
    PROCESS_INFORMATION process;
    SecureZeroMemory(&startup, sizeof startup);
    startup.cb = sizeof startup;
    if (CreateProcessA(target, command, NULL, NULL, FALSE, 0, NULL, NULL, &startup, &process)) {
        WaitForSingleObject(process.hProcess, 5000);
        CloseHandle(process.hThread);
        CloseHandle(process.hProcess);
    }
}

void start(void)
{
    if (is_child()) {
        note();
        ExitProcess(7);
    }
    copy_self();
    start_copy();
    DeleteFileA(target);
    ExitProcess(0);
}
