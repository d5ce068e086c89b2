/* Starts in wmain, by __wgetmainargs; other programs' output, descriptors and tables of functions for the end. */
#include <windows.h>

#include <io.h>
#include <stdio.h>
#include <wchar.h>

#include "check.h"

typedef struct {
    void *first, *last, *end;
} table;
static int order;

static int one(void)
{
    order = order * 10 + 1;
    return 0;
}

static int two(void)
{
    order = order * 10 + 2;
    return 0;
}

static void functions_for_the_end(void)
{
    HMODULE ucrt = LoadLibraryA("ucrtbase.dll");
    int (*initialize)(table *) = (void *)GetProcAddress(ucrt, "_initialize_onexit_table");
    int (*add)(table *, int (*)(void)) = (void *)GetProcAddress(ucrt, "_register_onexit_function");
    int (*execute)(table *) = (void *)GetProcAddress(ucrt, "_execute_onexit_table");
    table all;
    CHECK(initialize(&all) == 0 && add(&all, one) == 0 && add(&all, two) == 0);
    CHECK(execute(&all) == 0 && order == 21);
    CHECK(execute(&all) == 0 && order == 21);
}

int wmain(int count, wchar_t **arguments, wchar_t **environment)
{
    wchar_t line[16];
    FILE *output;
    int copy;
    CHECK(count == 3 && !wcscmp(arguments[1], L"one two") && !wcscmp(arguments[2], L"three"));
    CHECK(environment && environment[0] && wcschr(environment[0], L'='));
    output = _wpopen(L"dir", L"r");
    CHECK(output && !fgetws(line, 16, output) && _pclose(output) == 0);
    copy = _dup(1);
    CHECK(copy > 2 && _dup2(copy, 9) == 0 && _write(9, "x", 1) == 1);
    CHECK(_close(9) == 0 && _close(copy) == 0 && _close(copy) == -1);
    functions_for_the_end();
    return 0;
}
