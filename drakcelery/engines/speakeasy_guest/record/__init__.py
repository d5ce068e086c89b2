"""What is kept of a run: log lines, packets, dumps, and how far the program got."""
