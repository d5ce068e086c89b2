"""Exceptions of the program: faults and what it raises, who handles them, and how frames are unwound."""
