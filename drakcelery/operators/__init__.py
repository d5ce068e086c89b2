"""What people see of analyses and hosts, and do to them, from a terminal or a page."""
