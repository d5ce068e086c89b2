"""Karton's side: its tasks in Redis, read and written as Karton itself does it."""
