"""Recovery: what follows when a process, worker or host dies, or when one item of a loop fails."""
