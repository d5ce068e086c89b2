"""The programs of the simulated host, one module each; launch.py starts them. Standard library only."""
