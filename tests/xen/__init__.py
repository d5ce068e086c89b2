"""A simulated Xen host with DRAKVUF Sandbox on it: programs that keep state. README.md tells."""
