"""Karton's side: its tasks as they are in Redis, read and written as Karton does it."""
