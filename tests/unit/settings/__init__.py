"""Settings: where they come from, what they mean, and what is said when they are wrong."""
