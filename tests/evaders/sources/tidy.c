/* Writes a temporary file, removes it, and leaves a setting. */
#include "work.h"
int main(void)
{
    char folder[MAX_PATH], path[MAX_PATH];
    GetTempPathA(sizeof folder, folder);
    GetTempFileNameA(folder, "dra", 0, path);
    DeleteFileA(path);
    set_run_key("tidy");
    return 0;
}
