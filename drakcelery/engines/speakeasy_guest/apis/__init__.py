"""Functions of Windows that we answer instead of Speakeasy, a module each kind; :mod:`table` has them all."""
