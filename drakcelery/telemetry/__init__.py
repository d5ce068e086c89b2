"""What tells of our work: logs, metrics and traces, and how they leave the process."""
