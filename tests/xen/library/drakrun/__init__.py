"""The simulated DRAKVUF Sandbox as a package: what its commands do, by the names of the real library.

Only the interpreter below a simulated host's ``environment`` finds it; it is that of its script ``drakrun``.
"""
