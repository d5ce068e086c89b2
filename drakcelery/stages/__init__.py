"""The five stages of an attempt, what follows when one fails, and where the next attempt goes.

Nothing is imported here: who only ends analyses, or takes up others' files, needs no stage.
"""
