"""Xen's own ``xl`` under the engine: a dom0 that QEMU boots without KVM. ``make xen``; README.md says how."""
