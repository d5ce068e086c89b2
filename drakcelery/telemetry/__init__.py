"""Logs, metrics and traces of our work, and how they leave the process."""
