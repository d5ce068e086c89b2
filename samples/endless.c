/* A program that never ends: it writes a file and then spins; `endless.exe sleep` sleeps instead, `endless.exe
 * stir` sleeps longer each time, and `endless.exe eat` asks for memory. For the limits. Build line: README.md.
 */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

void start(void)
{
    DWORD written = 0;
    HANDLE file = CreateFileA("C:\\Users\\Public\\endless.txt", GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL);
    WriteFile(file, "on and on", 9, &written, NULL);
    CloseHandle(file);
    const char *line = GetCommandLineA();
    const char *end = line + lstrlenA(line);
    for (volatile unsigned i = 0;; i++)
        if (end[-1] == 'p')
            Sleep(10);
        else if (end[-1] == 'r')
            Sleep(i);
        else if (end[-1] == 't') {
            volatile char *memory = VirtualAlloc(NULL, 8 << 20, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
            for (unsigned offset = 0; memory && offset < 8 << 20; offset += 4096)
                memory[offset] = 1;
        }
}
