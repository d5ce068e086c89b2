/* Ends in the way that its argument names: by abort(), or by another program that takes its place. */
#include <process.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

static void on_abort(int number)
{
    FILE *file = fopen("C:\\Users\\Public\\drakcelery-abort.txt", "wb");
    fprintf(file, "%d", number);
    fclose(file);
}

int main(int count, char **arguments)
{
    const char *list[] = {"calc.exe", "-two", NULL};
    CHECK(count == 2);
    if (!strcmp(arguments[1], "abort")) {
        signal(SIGABRT, on_abort);
        abort();
    }
    if (!strcmp(arguments[1], "list"))
        _execl("C:\\Windows\\System32\\calc.exe", "calc.exe", "-one", NULL);
    if (!strcmp(arguments[1], "vector"))
        _execv("C:\\Windows\\System32\\calc.exe", list);
    CHECK(!"reached");
    return 0;
}
