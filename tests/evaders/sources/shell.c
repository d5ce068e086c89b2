/* Starts a program of Windows', and works. */
#include "work.h"
int main(void)
{
    STARTUPINFOA start = {sizeof start};
    PROCESS_INFORMATION child;
    char command[] = "C:\\Windows\\System32\\cmd.exe /c echo drakcelery";
    if (CreateProcessA(NULL, command, NULL, NULL, FALSE, 0, NULL, NULL, &start, &child)) {
        CloseHandle(child.hThread);
        CloseHandle(child.hProcess);
    }
    return work("parent");
}
