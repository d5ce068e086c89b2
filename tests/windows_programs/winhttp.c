/* Fetches a page by WinHTTP. Exit code 0, or the line of the check that failed. */
#include <windows.h>
#include <winhttp.h>

#include "check.h"

int main(void)
{
    HINTERNET session, connection, request;
    session = WinHttpOpen(L"agent", WINHTTP_ACCESS_TYPE_NO_PROXY, NULL, NULL, 0);
    CHECK(session);
    connection = WinHttpConnect(session, L"http.drakcelery.invalid", 80, 0);
    CHECK(connection);
    request = WinHttpOpenRequest(connection, L"GET", L"/http?n=2", NULL, NULL, NULL, 0);
    CHECK(request);
    CHECK(WinHttpSendRequest(request, NULL, 0, NULL, 0, 0, 0));
    return 0;
}
