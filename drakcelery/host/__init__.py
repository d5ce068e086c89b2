"""What a host keeps: its name, slots, workspaces, locks and directories, and how well its slots are."""
