/* Faults inside what __C_specific_handler guards (64 bit): mingw-w64 marks it by __try1. Exit code 0, or a line. */
#include <windows.h>

#include <excpt.h>
#include <signal.h>
#include <stdio.h>

#include "check.h"

static volatile int filtered;

EXCEPTION_DISPOSITION filter(struct _EXCEPTION_RECORD *pointers, void *frame, struct _CONTEXT *more, void *other)
{
    EXCEPTION_RECORD *record = ((EXCEPTION_POINTERS *)pointers)->ExceptionRecord;
    (void)frame, (void)more, (void)other;
    filtered = record->ExceptionCode == EXCEPTION_ACCESS_VIOLATION;
    return 1; /* EXCEPTION_EXECUTE_HANDLER */
}

__attribute__((noinline)) static int guarded(int *place)
{
    __try1(filter)
    *place = 1;
    __except1
    return filtered;
}

static void on_fault(int number)
{
    exit(number == SIGSEGV ? 0 : __LINE__);
}

int main(void)
{
    CHECK(guarded(NULL) == 1);
    signal(SIGSEGV, on_fault);
    *(volatile int *)16 = 1; /* mingw-w64's start-up guards main, and turns this into a signal */
    return __LINE__;
}
