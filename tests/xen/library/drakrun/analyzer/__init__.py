"""What analyses."""
