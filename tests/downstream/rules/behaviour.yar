/* The memory block in which samples/behaviour.exe runs its code: the code stands at the start of the dump. The
   program's own image has the same bytes elsewhere, and does not match. */
rule behaviour_code
{
    strings:
        $code = { B8 ?? 00 00 00 C3 64 72 61 6B 63 65 6C 65 72 79 2D 72 77 78 2D 6D 61 72 6B }
    condition:
        $code at 0
}
