"""What a sample did: read from the log while it is split, and put into ``report.json``."""
