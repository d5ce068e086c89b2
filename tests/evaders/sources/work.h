/* What a program of this corpus does once it trusts its machine: a file, a value below Run, a name looked up.
   All of it is harmless: the file is empty of meaning, and no name under .invalid exists (RFC 2606). */
#ifndef WORK_H
#define WORK_H
#define WIN32_LEAN_AND_MEAN
#define _WIN32_WINNT 0x0A00
#include <winsock2.h>
#include <windows.h>

static inline void write_file(const char *name)
{
    char path[MAX_PATH] = "C:\\Users\\Public\\";
    HANDLE file;
    DWORD written;
    lstrcatA(path, name);
    lstrcatA(path, ".txt");
    file = CreateFileA(path, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL);
    WriteFile(file, "drakcelery", 10, &written, NULL);
    CloseHandle(file);
}

static inline void set_run_key(const char *name)
{
    static const char command[] = "C:\\Users\\Public\\again.exe";
    HKEY key;
    if (RegCreateKeyExA(HKEY_CURRENT_USER, "Software\\Microsoft\\Windows\\CurrentVersion\\Run", 0, NULL, 0,
                        KEY_SET_VALUE, NULL, &key, NULL) == ERROR_SUCCESS) {
        RegSetValueExA(key, name, 0, REG_SZ, (const BYTE *)command, sizeof command);
        RegCloseKey(key);
    }
}

static inline void look_up(const char *name)
{
    char host[MAX_PATH];
    WSADATA data;
    lstrcpyA(host, name);
    lstrcatA(host, ".drakcelery.invalid");
    if (WSAStartup(MAKEWORD(2, 2), &data) == 0) {
        gethostbyname(host);
        WSACleanup();
    }
}

static inline int work(const char *name)
{
    write_file(name);
    set_run_key(name);
    look_up(name);
    return 0;
}
#endif
