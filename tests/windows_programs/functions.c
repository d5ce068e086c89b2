/* Calls what C programs call, and checks each result. Exit code 0, or the line of the check that failed. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <locale.h>
#include <malloc.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <wchar.h>
#include <windows.h>

#include "check.h"

static int constructed;
static int seen_signal;
static jmp_buf place;

__attribute__((constructor)) static void construct(void)
{
    constructed = 1;
}

static void on_signal(int number)
{
    seen_signal = number;
}

static int compare(const void *left, const void *right)
{
    return *(const int *)left - *(const int *)right;
}

static void jump(int depth)
{
    if (depth == 0)
        longjmp(place, 5);
    jump(depth - 1);
}

static int jumping_compare(const void *left, const void *right)
{
    (void)left, (void)right;
    longjmp(place, 9);
}

static void control(void)
{
    int numbers[] = {5, 3, 9, -2, 7, 3}, key = 7, result;
    volatile int kept = 11;
    CHECK(constructed);
    qsort(numbers, 6, sizeof numbers[0], compare);
    CHECK(numbers[0] == -2 && numbers[1] == 3 && numbers[2] == 3 && numbers[5] == 9);
    CHECK(bsearch(&key, numbers, 6, sizeof numbers[0], compare) == &numbers[4]);
    key = 8;
    CHECK(!bsearch(&key, numbers, 6, sizeof numbers[0], compare));
    result = setjmp(place);
    if (result == 0)
        jump(3);
    CHECK(result == 5 && kept == 11);
    result = setjmp(place);
    if (result == 0)
        qsort(numbers, 6, sizeof numbers[0], jumping_compare);
    CHECK(result == 9);
    qsort(numbers, 6, sizeof numbers[0], compare);
    CHECK(signal(SIGINT, on_signal) == SIG_DFL);
    CHECK(raise(SIGINT) == 0 && seen_signal == SIGINT);
    srand(1);
    CHECK(rand() == 41);
    CHECK(rand() == 18467);
}

static int formatted(char *buffer, size_t room, const char *form, ...)
{
    int length;
    va_list arguments;
    va_start(arguments, form);
    length = _vsnprintf(buffer, room, form, arguments);
    va_end(arguments);
    return length;
}

static void formats(void)
{
    char text[128];
    wchar_t wide[64];
    int number = 0, more = 0;
    char word[16];
    float real = 0;
    sprintf(text, "%5d|%-5d|%05d|%+d|%x|%#X|%o|%c|%%|%s", 42, 42, 42, 42, 255, 255, 8, 'c', "text");
    CHECK(!strcmp(text, "   42|42   |00042|+42|ff|0XFF|10|c|%|text"));
    sprintf(text, "%I64d %I64u %ld %hd", -1234567890123LL, 12345678901234ULL, -5L, (short)-7);
    CHECK(!strcmp(text, "-1234567890123 12345678901234 -5 -7"));
    sprintf(text, "%S|%ls|%hs|%.3s|%8s|%-8s|", L"wide", L"long", "short", "abcdef", "right", "left");
    CHECK(!strcmp(text, "wide|long|short|abc|   right|left    |"));
    sprintf(text, "%.2f %8.3f %g %G", 3.14159, -2.5, 0.5, 1000000.0);
    CHECK(!strcmp(text, "3.14   -2.500 0.5 1E+06") || !strcmp(text, "3.14   -2.500 0.5 1E+006"));
    sprintf(text, "%*d|%.*s", 6, 17, 2, "xyz");
    CHECK(!strcmp(text, "    17|xy"));
    CHECK(_snprintf(text, 4, "%s", "too long") == -1);
    CHECK(formatted(text, sizeof text, "%d-%s-%d", 1, "two", 3) == 7 && !strcmp(text, "1-two-3"));
    CHECK(_snwprintf(wide, 64, L"%s %S %d", L"wide", "narrow", 3) == 13);
    CHECK(!wcscmp(wide, L"wide narrow 3"));
    CHECK(sscanf("12 0x1f word 2.5", "%d %x %15s %f", &number, &more, word, &real) == 4);
    CHECK(number == 12 && more == 31 && !strcmp(word, "word") && real == 2.5f);
    CHECK(sscanf("key=value", "%15[^=]=%s", word, text) == 2 && !strcmp(word, "key") && !strcmp(text, "value"));
}

static void strings(void)
{
    char text[64], *end, *part;
    wchar_t wide[32];
    strcpy(text, "Hello");
    strcat(text, " World");
    CHECK(strlen(text) == 11 && !strcmp(text, "Hello World"));
    CHECK(strchr(text, 'o') == text + 4 && strrchr(text, 'o') == text + 7 && strstr(text, "World") == text + 6);
    CHECK(strncmp(text, "Help", 3) == 0 && strncmp(text, "Help", 4) < 0 && _stricmp(text, "HELLO WORLD") == 0);
    CHECK(strspn("aabbc", "ab") == 4 && strcspn("aabbc", "c") == 4 && !strcmp(strpbrk("abc", "cb"), "bc"));
    part = strtok(text, " ");
    CHECK(!strcmp(part, "Hello") && !strcmp(strtok(NULL, " "), "World") && !strtok(NULL, " "));
    CHECK(strtol(" -12x", &end, 10) == -12 && *end == 'x');
    CHECK(strtoul("ff", NULL, 16) == 255 && strtol("0x10", NULL, 0) == 16 && atoi("77") == 77);
    errno = 0;
    CHECK(strtol("99999999999", NULL, 10) == 2147483647 && errno == ERANGE);
    CHECK(_strtoi64("-99999999999", NULL, 10) == -99999999999LL && _atoi64("5000000000") == 5000000000LL);
    CHECK(strtod("2.5e3x", &end) == 2500.0 && *end == 'x' && atof("-0.25") == -0.25);
    CHECK(!strcmp(_itoa(-37, text, 10), "-37") && !strcmp(_itoa(255, text, 2), "11111111"));
    CHECK(!strcmp(_i64toa(-5000000000LL, text, 10), "-5000000000"));
    CHECK(mbstowcs(wide, "text", 32) == 4 && !wcscmp(wide, L"text") && wcslen(wide) == 4);
    CHECK(wcstombs(text, L"back", 64) == 4 && !strcmp(text, "back"));
    wcscpy(wide, L"C:\\a\\b.txt");
    CHECK(wcsrchr(wide, L'\\') == wide + 4 && _wcsicmp(wide, L"c:\\A\\B.TXT") == 0 && _wtoi(L"12") == 12);
    CHECK(isalpha('x') && !isdigit('x') && isspace(' ') && toupper('q') == 'Q' && iswupper(L'Q'));
    memset(text, 'x', 8);
    memmove(text + 1, text, 7);
    CHECK(!memcmp(text, "xxxxxxxx", 8) && memchr(text, 'y', 8) == NULL);
    part = _strdup("copy");
    CHECK(!strcmp(_strupr(part), "COPY"));
    free(part);
}

static void numbers(void)
{
    double whole;
    int exponent;
    volatile double two = 2.0;
    CHECK(pow(two, 10.0) == 1024.0 && sqrt(two * 8) == 4.0 && floor(-two - 0.5) == -3.0 && ceil(two + 0.1) == 3.0);
    CHECK(fabs(sin(two) - 0.9092974268256817) < 1e-12 && fabs(atan2(1.0, two) - 0.4636476090008061) < 1e-12);
    CHECK(fmod(7.5, two) == 1.5 && modf(two + 0.25, &whole) == 0.25 && whole == 2.0);
    CHECK(frexp(8.0, &exponent) == 0.5 && exponent == 4 && ldexp(0.5, 4) == 8.0);
    CHECK(abs(-4) == 4 && div(17, 5).quot == 3 && div(17, 5).rem == 2);
}

static void memory(void)
{
    char *block = malloc(100), *other = calloc(10, 10);
    CHECK(block && other && other[99] == 0);
    memset(block, 7, 100);
    block = realloc(block, 10000);
    CHECK(block && block[99] == 7 && _msize(block) == 10000);
    free(block);
    free(other);
    block = _aligned_malloc(100, 64);
    CHECK(block && (size_t)block % 64 == 0);
    _aligned_free(block);
}

static void times(void)
{
    char text[64];
    time_t now = time(NULL), then = 86400 * 365;
    struct tm *parts;
    CHECK(now > 1500000000);
    parts = gmtime(&then);
    CHECK(parts && parts->tm_year == 71 && parts->tm_mon == 0 && parts->tm_mday == 1 && parts->tm_wday == 5);
    CHECK(strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", parts) == 19 && !strcmp(text, "1971-01-01 00:00:00"));
    CHECK(mktime(parts) == then);
    CHECK(!strcmp(asctime(parts), "Fri Jan  1 00:00:00 1971\n"));
    CHECK(clock() >= 0 && difftime(10, 4) == 6.0);
}

/* One by one, through the buffer that a stream lends, and between other functions. */
static void characters(void)
{
    char line[64];
    int code, count = 0, wrong = 0;
    FILE *file = fopen("C:\\Users\\Public\\characters.txt", "w");
    CHECK(file);
    for (int i = 0; i < 20000; i++)
        CHECK(fputc(i % 50 == 49 ? '\n' : 'a' + i % 26, file) != EOF);
    CHECK(fprintf(file, "end %d\n", 5) == 6 && fputc('z', file) == 'z');
    CHECK(ftell(file) == 20000 + 400 + 7 + 1 && fclose(file) == 0);
    file = fopen("C:\\Users\\Public\\characters.txt", "r");
    while ((code = fgetc(file)) != EOF) {
        wrong += count < 20000 && code != (count % 50 == 49 ? '\n' : 'a' + count % 26);
        count++;
    }
    CHECK(count == 20007 && !wrong && feof(file));
    CHECK(fseek(file, 51, SEEK_SET) == 0);
    for (int i = 0; i < 100; i++)
        fgetc(file);
    CHECK(ftell(file) == 51 + 102);
    CHECK(ungetc('Q', file) == 'Q' && fgetc(file) == 'Q' && fgets(line, 64, file));
    CHECK(strlen(line) == 50 && line[49] == '\n' && fclose(file) == 0);
    file = fopen("C:\\Users\\Public\\bytes.bin", "w+b");
    for (int i = 0; i < 5000; i++)
        fputc(i, file);
    fseek(file, 10, SEEK_SET);
    for (int i = 10; i < 100; i++)
        CHECK(fgetc(file) == i);
    fseek(file, 0, SEEK_CUR);
    fputc('X', file);
    fseek(file, 100, SEEK_SET);
    CHECK(fgetc(file) == 'X' && fgetc(file) == 101 && fclose(file) == 0);
}

/* What Windows' functions and the runtime's know of each other. */
static void handles(void)
{
    LARGE_INTEGER size;
    DWORD done;
    char data[4];
    int number = _open("C:\\Users\\Public\\bytes.bin", _O_RDWR | _O_BINARY);
    HANDLE handle = (HANDLE)_get_osfhandle(number);
    CHECK(number > 2 && GetFileSizeEx(handle, &size) && size.QuadPart == 5000);
    CHECK(_lseek(number, 5, SEEK_SET) == 5 && ReadFile(handle, data, 2, &done, NULL) && data[0] == 5);
    CHECK(_tell(number) == 7 && SetFilePointer(handle, 10, NULL, FILE_BEGIN) == 10 && SetEndOfFile(handle));
    CHECK(_filelength(number) == 10 && _close(number) == 0);
}

static void environment(void)
{
    const char *usual[] = {"Path", "PATHEXT", "ProgramData", "PUBLIC", "OS", "HOMEPATH", "NUMBER_OF_PROCESSORS"};
    char folder[MAX_PATH];
    for (int i = 0; i < 7; i++)
        CHECK(getenv(usual[i]) && *getenv(usual[i]));
    CHECK(GetTempPathA(MAX_PATH, folder) == strlen(getenv("TEMP")) + 1 && folder[strlen(folder) - 1] == '\\');
    CHECK(GetTempPathA(3, folder) == strlen(getenv("TEMP")) + 2);
}

/* The end of a folder is no error; a file that was hidden is. */
static void folder(void)
{
    struct dirent *entry;
    int found = 0;
    DIR *open = opendir("C:\\Users\\Public");
    CHECK(open);
    errno = 0;
    while ((entry = readdir(open)))
        found += !strcmp(entry->d_name, "bytes.bin");
    CHECK(found == 1 && errno == 0 && closedir(open) == 0);
    CHECK(SetFileAttributesA("C:\\Users\\Public\\bytes.bin", FILE_ATTRIBUTE_HIDDEN | FILE_ATTRIBUTE_SYSTEM));
    CHECK(GetFileAttributesA("C:\\Users\\Public\\bytes.bin") == (FILE_ATTRIBUTE_HIDDEN | FILE_ATTRIBUTE_SYSTEM));
}

/* Code that functions of Windows, and the program, write again and again. */
static void code(void)
{
    unsigned char one[] = {0xb8, 1, 0, 0, 0, 0xc3};
    volatile char *place = VirtualAlloc(NULL, 4096, MEM_COMMIT, PAGE_EXECUTE_READWRITE);
    SIZE_T done;
    for (int i = 0; i < 20; i++) {
        one[1] = i;
        CHECK(WriteProcessMemory(GetCurrentProcess(), (void *)place, one, 6, &done));
        CHECK(((int (*)(void))place)() == i);
        one[1] = i + 50;
        memcpy((void *)place, one, 6);
        CHECK(((int (*)(void))place)() == i + 50);
        place[1] = i + 100;
        CHECK(((int (*)(void))place)() == i + 100);
        VirtualFree((void *)place, 0, MEM_RELEASE);
        CHECK(VirtualAlloc((void *)place, 4096, MEM_COMMIT | MEM_RESERVE, PAGE_EXECUTE_READWRITE) == place);
    }
}

int main(int count, char **arguments)
{
    CHECK(count == 3);
    CHECK(!strcmp(arguments[1], "first argument") && !strcmp(arguments[2], "second"));
    CHECK(strstr(arguments[0], ".exe"));
    CHECK(getenv("windir") && !strcmp(getenv("WINDIR"), "C:\\Windows") && !getenv("NO_SUCH_VARIABLE"));
    CHECK(_putenv("DRAKCELERY=here") == 0 && !strcmp(getenv("DRAKCELERY"), "here"));
    CHECK(!strcmp(setlocale(LC_ALL, "C"), "C"));
    control();
    formats();
    strings();
    numbers();
    memory();
    times();
    characters();
    handles();
    environment();
    folder();
    code();
    return 0;
}
