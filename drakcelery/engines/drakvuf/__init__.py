"""The engine for Xen hosts: DRAKVUF, through the tools of DRAKVUF Sandbox v0.19 to v0.21.

====================  =====================================================================
:mod:`.commands`      every command line, and what the tools print: pure functions
:mod:`.xen_options`   which options Xen was started with
:mod:`.launch`        the file that a tool's process runs first
:mod:`.cell`          a slot's directory: who holds its guest, which processes belong to it
:mod:`.tools`         runs one tool within bounds, keeps what it says
:mod:`.tool_output`   the lines of it that tell why a tool failed
:mod:`.resident`      runs in drakrun's own interpreter and does its calls with its library
:mod:`.library`       calls to it, from any process of the worker
:mod:`.residence`     how it is started, and whether its library is one that is known
:mod:`.keeper`        keeps it running
:mod:`.base_lines`    DRAKVUF's base command lines, asked for once
:mod:`.guest`         restore, make ready, copy a file in, destroy
:mod:`.firewall`      which rules keep a guest in, and which are missing
:mod:`.network`       what keeps a guest in: looked at before and while a sample runs
:mod:`.run`           DRAKVUF and tcpdump beside each other, watched
:mod:`.screenshots`   of the guest, beside them
:mod:`.execution`     what became of a run
:mod:`.snapshot`      which snapshot it is
:mod:`.installation`  what DRAKVUF Sandbox has on this host
:mod:`.acceptance`    whether it can run a sample as its task asks
:mod:`.engine`        the engine itself
====================  =====================================================================
"""
