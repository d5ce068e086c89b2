"""Hooks of the emulated processor: called while they are on, at no cost while they are off."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():  # of Unicorn's bindings
    warnings.simplefilter("ignore")
    from speakeasy.common import CodeHook
    from speakeasy.winenv import arch

    from drakcelery.engines.speakeasy_guest.machine import hooks
    from drakcelery.engines.speakeasy_guest.machine.hooks import SwitchedHooks

CODE = 0x1000
LOOP = b"\xb9\x0a\x00\x00\x00\x49\x75\xfd"
"""``mov ecx, 10``, then ten times ``dec ecx`` and ``jnz`` to it."""


class Emulator:
    """As much of Speakeasy's as a hook of it looks at."""

    exit_event = None


def engine() -> SwitchedHooks:
    """A processor with the loop in its memory."""
    made = SwitchedHooks()
    made.init_engine(arch.ARCH_X86, arch.BITS_32)
    made.mem_map(CODE, 0x1000)
    made.mem_write(CODE, LOOP)
    return made


def run(processor: SwitchedHooks) -> None:
    """From the loop's beginning to its end."""
    processor.emu.emu_start(CODE, CODE + len(LOOP))


def test_a_hook_is_called_only_while_it_is_on() -> None:
    """For each instruction, then for none and again for each, without new code being translated."""
    processor, seen = engine(), []
    hook = CodeHook(Emulator(), processor, lambda _emu, address, _size, _context: seen.append(address))
    hook.add()
    run(processor)
    assert seen == [CODE, *(CODE + 5, CODE + 6) * 10]
    hook.disable()
    run(processor)
    hook.enable()
    run(processor)
    assert seen == [CODE, *(CODE + 5, CODE + 6) * 10] * 2


def test_unicorn_does_not_call_ours_while_it_is_off() -> None:
    """What it calls is the C library's; Python sees nothing of the loop."""
    assert hooks.KNOWN
    processor, asked = engine(), []

    class Asked(CodeHook):  # type: ignore[misc]  # the base has no types
        def _wrap_code_cb(self, _emu: object, address: int, *_more: object) -> bool:
            asked.append(address)
            return True

    hook = Asked(Emulator(), processor, lambda *_all: True)
    hook.add()
    hook.disable()
    run(processor)
    assert asked == []
    hook.enable()
    run(processor)
    assert len(asked) == 21


def test_a_hook_can_turn_itself_off() -> None:
    """As one does that waits for the first instruction of something."""
    processor, seen = engine(), []

    def once(_emu: object, address: int, _size: int, _context: object) -> None:
        seen.append(address)
        hook.disable()

    hook = CodeHook(Emulator(), processor, once)
    hook.add()
    run(processor)
    assert seen == [CODE]
