#!/bin/sh
# Builds the samples into the directory given (default: here). Needs mingw-w64 (Debian: gcc-mingw-w64).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here}
flags="-Os -s -nostdlib -ffreestanding -fno-asynchronous-unwind-tables -Wall -Wextra -Wno-multichar -Wl,--no-insert-timestamp"
cd "$here"
x86_64-w64-mingw32-gcc $flags -Wl,-e,start -o "$out/behaviour.exe" behaviour.c -lws2_32 -ladvapi32 -lkernel32
i686-w64-mingw32-gcc $flags -Wl,-e,_start@0 -o "$out/behaviour32.exe" behaviour32.c -lwininet -lntdll -lkernel32
x86_64-w64-mingw32-gcc $flags -Wl,-e,start -o "$out/endless.exe" endless.c -lkernel32
x86_64-w64-mingw32-gcc $flags -Wl,-e,start -Wl,--image-base,0x180000000 -shared -o "$out/library.dll" library.c -ladvapi32 -lkernel32
i686-w64-mingw32-gcc $flags -Wl,-e,_start@12 -Wl,--kill-at -Wl,--image-base,0x10000000 -shared -o "$out/library32.dll" library.c -ladvapi32 -lkernel32
x86_64-w64-mingw32-gcc $flags -Wl,-e,start -o "$out/dropper.exe" dropper.c -ladvapi32 -lkernel32
