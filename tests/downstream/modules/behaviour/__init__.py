"""A malduck module, as analysts write them: the answer that the code of samples/behaviour.exe returns."""

from malduck import Extractor  # type: ignore[import-not-found] # it is in build/downstream, where this runs


class Behaviour(Extractor):  # type: ignore[misc] # malduck is not there for mypy
    """Finds the code by its rule, and reads its operand."""

    family = "behaviour"
    yara_rules = ("behaviour_code",)

    @Extractor.string("code")
    def code(self, memory, address, _match):  # type: ignore[no-untyped-def] # malduck has the types
        """The code is ``mov eax, ANSWER; ret``, at the virtual address that the analysis says of the dump."""
        return {"answer": memory.uint32v(address + 1), "address": f"{address:#x}"}
