"""Heaps: blocks of all kinds come from few places, quickly; what is no block is not freed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulating import Bench
from tests.guest_programs import build, said

BITS = pytest.mark.parametrize("bits", [32, 64])


@BITS
def test_blocks(tmp_path: Path, bits: int) -> None:
    """Sizes are what was asked for; blocks are apart, keep their content as they grow, go with their heap."""
    source = r"""
    #include <stdlib.h>
    #include <string.h>
    #include <malloc.h>
    int main(void)
    {
        HANDLE heap = GetProcessHeap(), own = HeapCreate(0, 0, 0);
        static BYTE expected[500 * 37];
        BYTE *blocks[500], *block, *zeros;
        int good = 1;
        for (int i = 0; i < 500; i++) {
            blocks[i] = HeapAlloc(i % 2 ? heap : own, 0, i * 37);
            memset(blocks[i], i, i * 37);
            good &= HeapSize(heap, 0, blocks[i]) == i * 37 && ((UINT_PTR)blocks[i] & 7) == 0;
        }
        for (int i = 0; i < 500; i++) {
            memset(expected, i, i * 37);
            good &= !memcmp(blocks[i], expected, i * 37);
        }
        mark(good ? "apart" : "wrong");
        for (int i = 0; i < 500; i += 3)
            good &= HeapFree(heap, 0, blocks[i]);
        mark(good && !HeapFree(heap, 0, blocks[3]) && GetLastError() == ERROR_INVALID_PARAMETER
             ? "twice" : "wrong");
        mark(HeapFree(heap, 0, blocks[4] + 8) || HeapFree(heap, 0, &good) ? "wrong" : "no-block");
        mark(HeapFree(heap, 0, NULL) && !HeapValidate(heap, 0, blocks[3]) && HeapValidate(heap, 0, blocks[4])
             && HeapSize(heap, 0, blocks[3]) == (SIZE_T)-1 ? "known" : "wrong");
        zeros = HeapAlloc(heap, HEAP_ZERO_MEMORY, 37 * 6);
        for (int i = 0; i < 37 * 6; i++)
            good &= !zeros[i];
        mark(good ? "zeros" : "wrong");
        block = HeapAlloc(heap, 0, 100);
        memcpy(block, "content", 8);
        mark(HeapReAlloc(heap, 0, block, 98) == block && HeapSize(heap, 0, block) == 98
             ? "in-place" : "wrong");
        mark(HeapReAlloc(heap, HEAP_REALLOC_IN_PLACE_ONLY, block, 9999) ? "wrong" : "not-in-place");
        block = HeapReAlloc(heap, HEAP_ZERO_MEMORY, block, 200000);
        mark(!strcmp(block, "content") && !block[98] && !block[199999] && HeapSize(heap, 0, block) == 200000
             ? "grown" : "wrong");
        block = HeapReAlloc(heap, 0, block, 8);
        mark(!strcmp(block, "content") ? "shrunk" : "wrong");
        mark(HeapReAlloc(heap, 0, NULL, 8) || HeapReAlloc(heap, 0, blocks[3], 8) ? "wrong" : "no-realloc");
        mark(HeapAlloc(heap, 0, (SIZE_T)-1 / 2) ? "wrong" : "too-large");
        mark(HeapDestroy(own) && !HeapDestroy(own) && !HeapValidate(heap, 0, blocks[4])
             && HeapValidate(heap, 0, blocks[5]) ? "destroyed" : "wrong");
        block = malloc(33);
        mark(_msize(block) == 33 && !HeapFree(heap, 0, block + 1) ? "malloc" : "wrong");
        block = realloc(block, 70000);
        free(block);
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == [
        *("apart", "twice", "no-block", "known", "zeros", "in-place", "not-in-place", "grown", "shrunk"),
        *("no-realloc", "too-large", "destroyed", "malloc"),
    ]


@BITS
def test_local_and_global_blocks(tmp_path: Path, bits: int) -> None:
    """What LocalFree and GlobalFree say of blocks, of what Windows gave, and of what is neither."""
    source = r"""
    #include <string.h>
    #include <shellapi.h>
    int main(void)
    {
        int count;
        HGLOBAL block = GlobalAlloc(GHND, 100), other;
        char *text = GlobalLock(block);
        strcpy(text, "text");
        GlobalUnlock(block);
        mark(GlobalSize(block) == 100 && !text[5] && !text[99] ? "size" : "wrong");
        other = GlobalReAlloc(block, 5000, GMEM_MOVEABLE | GMEM_ZEROINIT);
        text = GlobalLock(other);
        mark(!strcmp(text, "text") && !text[4999] && GlobalSize(other) == 5000 ? "moved" : "wrong");
        mark(GlobalFree(other) || GlobalFree(other) != other || GetLastError() != ERROR_INVALID_HANDLE
             ? "wrong" : "once");
        HLOCAL local = LocalAlloc(LPTR, 10);
        mark(LocalSize(local) == 10 && !LocalFree(local) && !LocalSize(local) && LocalFree(local) == local
             ? "local" : "wrong");
        mark(LocalFree(NULL) || GlobalFree(NULL) || LocalFree(&count) != (HLOCAL)&count
             ? "wrong" : "nothing");
        WCHAR **arguments = CommandLineToArgvW(L"a b", &count);
        mark(LocalFree(arguments) || count != 2 ? "wrong" : "given");
        FormatMessageA(FORMAT_MESSAGE_ALLOCATE_BUFFER | FORMAT_MESSAGE_FROM_SYSTEM, 0, 5, 0, (char *)&text,
                       0, 0);
        mark(!strcmp(text, "Access is denied.\r\n") && !LocalFree(text) ? "message" : "wrong");
        return 0;
    }
    """
    assert said(tmp_path, source, bits, "-lshell32") == [
        *("size", "moved", "once", "local", "nothing", "given", "message"),
    ]


@BITS
def test_blocks_by_the_thousand(tmp_path: Path, bits: int) -> None:
    """They lie in a few mappings, since each one costs time, whoever allocates them."""
    source = r"""
    #include <stdlib.h>
    static void *all[2000];
    int main(void)
    {
        MEMORY_BASIC_INFORMATION info;
        void *bases[16] = {0};
        int good = 1, count = 0, found;
        for (int i = 0; i < 2000; i++)
            all[i] = i % 2 ? HeapAlloc(GetProcessHeap(), 0, i) : malloc(i);
        for (int i = 0; i < 2000; i += 50) {
            VirtualQuery(all[i], &info, sizeof info);
            for (found = 0; found < count && bases[found] != info.AllocationBase; found++)
                ;
            if (found == count && count < 15)
                bases[count++] = info.AllocationBase;
        }
        mark(count < 8 ? "few" : "many");
        for (int i = 1; i < 2000; i += 2)
            good &= HeapFree(GetProcessHeap(), 0, all[i]);
        for (int i = 0; i < 2000; i += 2)
            free(all[i]);
        mark(good ? "freed" : "wrong");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == ["few", "freed"]


@BITS
@pytest.mark.parametrize(
    "allocate", ["HeapAlloc(GetProcessHeap(), 0, SIZE)", "LocalAlloc(0, SIZE)", "malloc(SIZE)"]
)
@pytest.mark.parametrize("size", [1500, 90000])
def test_what_is_unpacked_is_dumped(tmp_path: Path, bits: int, allocate: str, size: int) -> None:
    """A program in a block of the heap, be it small or large, is among the dumps."""
    source = rf"""
    #include <stdlib.h>
    #define SIZE {size}
    int main(void)
    {{
        malloc(20);
        char *block = {allocate};
        for (int i = 0; i < SIZE; i++)
            block[i] = i % 251;
        block[0] = 'M', block[1] = 'Z';
        malloc(20);
        return 0;
    }}
    """
    run = Bench(tmp_path).detonate(build(tmp_path, source, bits))
    unpacked = b"MZ" + bytes(number % 251 for number in range(2, size))
    assert [name for name, content in run.dumps().items() if content[:size] == unpacked]
