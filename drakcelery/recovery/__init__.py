"""What happens when something dies, or fails in a way of its own."""
