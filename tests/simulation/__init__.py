"""Deterministic simulation: the real code in one process; its time, servers and faults are made up."""
