"""Threads: who runs when, what each waits for, and what Windows keeps for each."""
