"""What ``drakcelery init`` writes on a machine: its configuration and its systemd units.

:mod:`.units` says what a unit is, :mod:`.importing` takes over the settings of DRAKVUF Sandbox and of Karton,
:mod:`.configuration` writes the configuration file, :mod:`.plan` decides, :mod:`.writing` does it.
"""
