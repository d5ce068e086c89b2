/* The same doings as behaviour.c by other means, 32 bit: the native API for the file and the registry, WinINet for the
 * network, WinExec for the process, VirtualAlloc and then VirtualProtect for the memory. It also calls functions that
 * the emulator lacks, with arguments: the stack must still be right after them. Harmless. Build line: README.md.
 */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <winternl.h>
#include <wininet.h>

NTSTATUS NTAPI NtCreateFile(PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, PIO_STATUS_BLOCK, PLARGE_INTEGER, ULONG, ULONG,
                            ULONG, ULONG, PVOID, ULONG);
NTSTATUS NTAPI NtWriteFile(HANDLE, HANDLE, PIO_APC_ROUTINE, PVOID, PIO_STATUS_BLOCK, PVOID, ULONG, PLARGE_INTEGER,
                           PULONG);
NTSTATUS NTAPI NtClose(HANDLE);
NTSTATUS NTAPI NtCreateKey(PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, ULONG, PUNICODE_STRING, ULONG, PULONG);
NTSTATUS NTAPI NtSetValueKey(HANDLE, PUNICODE_STRING, ULONG, ULONG, PVOID, ULONG);

static char text[] = "drakcelery was here too\r\n";
static WCHAR value[] = L"drakcelery was here too";
static const unsigned char code[] = "\xb8\x2a\x00\x00\x00\xc3" "drakcelery-protect-mark";

static void name(OBJECT_ATTRIBUTES *attributes, UNICODE_STRING *string, WCHAR *path)
{
    string->Buffer = path;
    string->Length = (USHORT)(lstrlenW(path) * sizeof(WCHAR));
    string->MaximumLength = string->Length + sizeof(WCHAR);
    InitializeObjectAttributes(attributes, string, OBJ_CASE_INSENSITIVE, NULL, NULL);
}

static void write_file(void)
{
    OBJECT_ATTRIBUTES attributes;
    UNICODE_STRING string;
    IO_STATUS_BLOCK status;
    HANDLE file = NULL;
    name(&attributes, &string, L"\\??\\C:\\Users\\Public\\drakcelery-sample32.txt");
    if (NtCreateFile(&file, FILE_GENERIC_WRITE, &attributes, &status, NULL, FILE_ATTRIBUTE_NORMAL, 0,
                     FILE_OVERWRITE_IF, FILE_SYNCHRONOUS_IO_NONALERT, NULL, 0) < 0)
        return;
    NtWriteFile(file, NULL, NULL, NULL, &status, text, sizeof text - 1, NULL, NULL);
    NtClose(file);
}

static void set_value(void)
{
    OBJECT_ATTRIBUTES attributes;
    UNICODE_STRING key_name, value_name;
    HANDLE key = NULL;
    name(&attributes, &key_name, L"\\Registry\\User\\.Default\\Software\\drakcelery-sample32");
    if (NtCreateKey(&key, KEY_WRITE, &attributes, 0, NULL, 0, NULL) < 0)
        return;
    name(&attributes, &value_name, L"Greeting");
    NtSetValueKey(key, &value_name, 0, REG_SZ, value, sizeof value);
    NtClose(key);
}

static void fetch(void)
{
    char answer[64];
    DWORD got = 0;
    HINTERNET session = InternetOpenA("drakcelery-sample", INTERNET_OPEN_TYPE_DIRECT, NULL, NULL, 0);
    HINTERNET server = InternetConnectA(session, "web.drakcelery.invalid", 80, NULL, NULL, INTERNET_SERVICE_HTTP, 0, 0);
    HINTERNET page = HttpOpenRequestA(server, "GET", "/page?q=1", NULL, NULL, NULL, 0, 0);
    if (page && HttpSendRequestA(page, NULL, 0, NULL, 0))
        InternetReadFile(page, answer, sizeof answer, &got);
    InternetCloseHandle(page);
    InternetCloseHandle(server);
    InternetCloseHandle(session);
}

static int run_code(void)
{
    DWORD before;
    volatile unsigned char *memory = VirtualAlloc(NULL, 4096, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
    if (!memory)
        return 0;
    for (unsigned i = 0; i < sizeof code; i++)
        memory[i] = code[i];
    VirtualProtect((void *)memory, 4096, PAGE_EXECUTE_READWRITE, &before);
    return ((int (*)(void))memory)();
}

void __stdcall start(void)
{
    SetConsoleCtrlHandler(NULL, TRUE);
    GetSystemFirmwareTable('RSMB', 0, NULL, 0);
    write_file();
    set_value();
    fetch();
    WinExec("cmd.exe /c echo drakcelery-sample32", SW_HIDE);
    ExitProcess(run_code() == 42 ? 0 : 1);
}
