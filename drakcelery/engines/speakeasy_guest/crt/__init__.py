"""The C runtimes that programs are linked with: msvcrt.dll, the UCRT, and those of Visual C++.

One implementation for all of them, found by a function's name (:mod:`table`). It calls the emulator only in
:mod:`machine`, :mod:`abi` and :mod:`disk`, so that files and processes lead to the same events as the calls
of Windows' own functions.
"""
