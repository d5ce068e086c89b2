/* The harmless behaviour sample of `make demo`: each thing a sandbox should see, once, and nothing else.
 *
 * It writes a file below %TEMP%, sets a value below HKCU\Software\drakcelery-sample, resolves a name that can never
 * exist (RFC 2606: .invalid) and talks to it if something answers all the same, starts `cmd.exe /c echo`, and runs six
 * bytes of code in memory that is readable, writable and executable. It needs no C runtime. Build line: README.md.
 */
#define WIN32_LEAN_AND_MEAN
#include <winsock2.h>
#include <windows.h>

static const char text[] = "drakcelery was here\r\n";
static const char request[] = "GET /hello HTTP/1.1\r\nHost: sample.drakcelery.invalid\r\nConnection: close\r\n\r\n";

/* mov eax, 42; ret: the same bytes in 32 and 64 bit, and a mark to look for in the memory dump. */
static const unsigned char code[] = "\xb8\x2a\x00\x00\x00\xc3" "drakcelery-rwx-mark";

static void write_file(void)
{
    char path[MAX_PATH + 32];
    DWORD length = GetTempPathA(MAX_PATH, path), written = 0;
    lstrcpyA(path + length, "drakcelery-sample.txt");
    HANDLE file = CreateFileA(path, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return;
    WriteFile(file, text, sizeof text - 1, &written, NULL);
    CloseHandle(file);
}

static void set_value(void)
{
    HKEY key;
    if (RegCreateKeyExA(HKEY_CURRENT_USER, "Software\\drakcelery-sample", 0, NULL, 0, KEY_WRITE, NULL, &key, NULL))
        return;
    RegSetValueExA(key, "Greeting", 0, REG_SZ, (const BYTE *)text, sizeof text - 3);
    RegCloseKey(key);
}

static void talk(void)
{
    WSADATA data;
    struct sockaddr_in address;
    char answer[64];
    if (WSAStartup(MAKEWORD(2, 2), &data))
        return;
    struct hostent *host = gethostbyname("sample.drakcelery.invalid");
    if (host) {
        SOCKET s = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
        address.sin_family = AF_INET;
        address.sin_port = htons(8080);
        address.sin_addr = *(struct in_addr *)host->h_addr_list[0];
        if (connect(s, (struct sockaddr *)&address, sizeof address) == 0) {
            send(s, request, sizeof request - 1, 0);
            recv(s, answer, sizeof answer, 0);
        }
        closesocket(s);
    }
    WSACleanup();
}

static void start_process(void)
{
    char command[] = "cmd.exe /c echo drakcelery-sample";
    STARTUPINFOA startup;
    PROCESS_INFORMATION process;
    SecureZeroMemory(&startup, sizeof startup);
    startup.cb = sizeof startup;
    if (CreateProcessA(NULL, command, NULL, NULL, FALSE, CREATE_NO_WINDOW, NULL, NULL, &startup, &process)) {
        CloseHandle(process.hThread);
        CloseHandle(process.hProcess);
    }
}

static int run_code(void)
{
    volatile unsigned char *memory = VirtualAlloc(NULL, 4096, MEM_COMMIT | MEM_RESERVE, PAGE_EXECUTE_READWRITE);
    if (!memory)
        return 0;
    for (unsigned i = 0; i < sizeof code; i++)
        memory[i] = code[i];
    return ((int (*)(void))memory)();
}

void start(void)
{
    write_file();
    set_value();
    talk();
    start_process();
    ExitProcess(run_code() == 42 ? 0 : 1);
}
