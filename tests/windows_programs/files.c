/* Writes and reads files by stdio and by low-level I/O. Exit code 0, or the line of the check that failed. */
#include <direct.h>
#include <fcntl.h>
#include <io.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <wchar.h>

#include "check.h"

#define FOLDER "C:\\Users\\Public\\drakcelery"

static void streams(void)
{
    char text[64];
    FILE *file = fopen(FOLDER "\\lines.txt", "w");
    CHECK(file);
    CHECK(fputc('a', file) == 'a');
    CHECK(fprintf(file, "%s %d %5.2f\n", "bc", 42, 1.5) == 12);
    CHECK(fputs("second\n", file) >= 0);
    CHECK(fwrite("third", 1, 5, file) == 5);
    CHECK(fclose(file) == 0);
    file = fopen(FOLDER "\\lines.txt", "a");
    CHECK(file);
    CHECK(fputs(" line", file) >= 0);
    CHECK(fclose(file) == 0);
    file = fopen(FOLDER "\\lines.txt", "r");
    CHECK(file);
    CHECK(fgets(text, sizeof text, file) && !strcmp(text, "abc 42  1.50\n"));
    CHECK(fgets(text, sizeof text, file) && !strcmp(text, "second\n"));
    CHECK(fread(text, 1, 5, file) == 5 && !memcmp(text, "third", 5));
    CHECK(fgetc(file) == ' ' && ungetc('_', file) == '_' && fgetc(file) == '_');
    CHECK(fgets(text, sizeof text, file) && !strcmp(text, "line"));
    CHECK(!feof(file) || fgetc(file) == EOF);
    CHECK(fgetc(file) == EOF && feof(file));
    fclose(file);
}

static void binary(void)
{
    unsigned char data[16];
    FILE *file = fopen(FOLDER "\\data.bin", "wb+");
    CHECK(file);
    CHECK(fwrite("0123456789", 1, 10, file) == 10);
    CHECK(fseek(file, 4, SEEK_SET) == 0);
    CHECK(fwrite("XY", 1, 2, file) == 2);
    CHECK(fseek(file, -3, SEEK_END) == 0);
    CHECK(ftell(file) == 7);
    CHECK(fread(data, 1, sizeof data, file) == 3 && !memcmp(data, "789", 3));
    rewind(file);
    CHECK(fread(data, 2, 5, file) == 5 && !memcmp(data, "0123XY6789", 10));
    CHECK(fclose(file) == 0);
}

static void wide(void)
{
    wchar_t text[32];
    FILE *file = _wfopen(L"C:\\Users\\Public\\drakcelery\\wide.txt", L"w");
    CHECK(file);
    CHECK(fputws(L"wide text\n", file) >= 0);
    CHECK(fwprintf(file, L"%d\n", 7) == 2);
    CHECK(fputwc(L'z', file) == L'z');
    CHECK(fclose(file) == 0);
    file = _wfopen(L"C:\\Users\\Public\\drakcelery\\wide.txt", L"r");
    CHECK(file);
    CHECK(fgetws(text, 32, file) && !wcscmp(text, L"wide text\n"));
    CHECK(fgetwc(file) == L'7');
    fclose(file);
}

static void low(void)
{
    char text[32];
    struct stat status;
    int number = _open(FOLDER "\\low.bin", _O_CREAT | _O_TRUNC | _O_RDWR | _O_BINARY, _S_IREAD | _S_IWRITE);
    CHECK(number > 2);
    CHECK(_write(number, "low-level", 9) == 9);
    CHECK(_lseek(number, 4, SEEK_SET) == 4);
    CHECK(_read(number, text, sizeof text) == 5 && !memcmp(text, "level", 5));
    CHECK(_filelength(number) == 9);
    CHECK(_close(number) == 0);
    CHECK(stat(FOLDER "\\low.bin", &status) == 0);
    CHECK(status.st_size == 9);
    CHECK(_access(FOLDER "\\low.bin", 0) == 0);
    CHECK(_access(FOLDER "\\absent.bin", 0) == -1);
    CHECK(rename(FOLDER "\\low.bin", FOLDER "\\moved.bin") == 0);
    CHECK(remove(FOLDER "\\moved.bin") == 0);
    CHECK(_open(FOLDER "\\moved.bin", _O_RDONLY) == -1);
}

static void found(void)
{
    struct _finddata_t data;
    int count = 0;
    intptr_t search = _findfirst(FOLDER "\\*.bin", &data);
    CHECK(search != -1);
    do {
        CHECK(!strcmp(data.name, "data.bin"));
        CHECK(data.size == 10);
        count++;
    } while (_findnext(search, &data) == 0);
    CHECK(count == 1);
    CHECK(_findclose(search) == 0);
}

int main(void)
{
    CHECK(_mkdir(FOLDER) == 0);
    streams();
    binary();
    wide();
    low();
    found();
    puts("done");
    return 0;
}
