/* Calls what programs of Visual C++ import. Exit code 0, or the line of the check that failed. */
#include <windows.h>

#include <string.h>

#include "check.h"

#ifdef _WIN64
#define METHOD
#define MAKE "??0exception@@QEAA@AEBQEBD@Z"
#define COPY "??0exception@@QEAA@AEBV0@@Z"
#define WHAT "?what@exception@@UEBAPEBDXZ"
#define DESTROY "??1exception@@UEAA@XZ"
#define NEW "??2@YAPEAX_K@Z"
#define DELETE "??3@YAXPEAX@Z"
#else
#define METHOD __attribute__((thiscall))
#define MAKE "??0exception@@QAE@ABQBD@Z"
#define COPY "??0exception@@QAE@ABV0@@Z"
#define WHAT "?what@exception@@UBEPBDXZ"
#define DESTROY "??1exception@@UAE@XZ"
#define NEW "??2@YAPAXI@Z"
#define DELETE "??3@YAXPAX@Z"
#endif

struct object {
    void **methods;
    const char *text;
    int own;
};

static void *function(const char *name)
{
    void *address = (void *)GetProcAddress(LoadLibraryA("msvcrt.dll"), name);
    CHECK(address);
    return address;
}

static void exceptions(void)
{
    METHOD void *(*make)(void *, const char **) = function(MAKE);
    METHOD void *(*copy)(void *, const void *) = function(COPY);
    METHOD const char *(*what)(const void *) = function(WHAT);
    METHOD void (*destroy)(void *) = function(DESTROY);
    METHOD const char *(*virtual)(const void *);
    void *(*allocate)(size_t) = function(NEW);
    void (*release)(void *) = function(DELETE);
    char words[] = "what happened";
    const char *text = words;
    struct object *one = allocate(sizeof *one), two;
    CHECK(make(one, &text) == one);
    words[0] = 'W';
    CHECK(!strcmp(what(one), "what happened"));
    CHECK(copy(&two, one) == &two && two.text != one->text);
    virtual = two.methods[1];
    CHECK(!strcmp(virtual(&two), "what happened"));
    destroy(one);
    destroy(&two);
    release(one);
}

#ifndef _WIN64
static void floating(void)
{
    void *power = function("_CIpow"), *root = function("_CIsqrt"), *whole = function("_ftol");
    double x = 3.0, y = 4.0, result;
    long long integer;
    __asm__("fldl %1; fldl %2; call *%3; fstpl %0" : "=m"(result) : "m"(x), "m"(y), "r"(power) : "eax", "ecx", "edx");
    CHECK(result == 81.0);
    __asm__("fldl %1; call *%2; fstpl %0" : "=m"(result) : "m"(result), "r"(root) : "eax", "ecx", "edx");
    CHECK(result == 9.0);
    x = -5000000000.75;
    __asm__("fldl %1; call *%2" : "=A"(integer) : "m"(x), "r"(whole) : "ecx");
    CHECK(integer == -5000000000LL);
}
#endif

int main(void)
{
    exceptions();
#ifndef _WIN64
    floating();
#endif
    return 0;
}
