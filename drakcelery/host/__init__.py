"""What a host keeps: its name, slots, workspaces, locks and directories, and the health of its slots."""
