/* A DLL that says in the registry which of its functions was called. Harmless. Build line: README.md. */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

static void note(const char *name)
{
    HKEY key;
    if (RegCreateKeyExA(HKEY_CURRENT_USER, "Software\\drakcelery-library", 0, NULL, 0, KEY_WRITE, NULL, &key, NULL))
        return;
    RegSetValueExA(key, name, 0, REG_SZ, (const BYTE *)"called", 7);
    RegCloseKey(key);
}

BOOL WINAPI start(HINSTANCE self, DWORD reason, LPVOID reserved)
{
    (void)self, (void)reserved;
    if (reason == DLL_PROCESS_ATTACH)
        note("DllMain");
    return TRUE;
}

__declspec(dllexport) void CALLBACK Run(HWND window, HINSTANCE self, LPSTR line, int show)
{
    (void)window, (void)self, (void)line, (void)show;
    note("Run");
}

__declspec(dllexport) HRESULT STDAPICALLTYPE DllRegisterServer(void)
{
    note("DllRegisterServer");
    return S_OK;
}
