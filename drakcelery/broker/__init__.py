"""The broker: its configuration, where a message goes, and how long a message is ours."""
