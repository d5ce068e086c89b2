"""The programs that the sample starts: which they are, and how they are followed."""
