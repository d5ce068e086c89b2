"""The machine that is emulated: processor, memory, disk, and the page that Windows shares with programs."""
