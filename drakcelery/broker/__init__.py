"""The broker: its configuration, where a message goes, and how long it belongs to its worker."""
