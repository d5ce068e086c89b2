#!/bin/sh
# The first process of the dom0: what xencommons and systemd do on a real host, then the checks, then the end.
export PATH=/usr/lib/xen/bin:/usr/bin:/bin HOME=/root
mkdir -p /proc /sys /dev /run /tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /etc/xen /var/log/xen /var/lib/xen /var/lib/xenstored
: >/etc/xen/xl.conf
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mkdir -p /run/xen /run/xenstored /run/lock
ln -s /run /var/run
dmesg -n 1
for module in /modules/*.ko; do insmod "$module"; done
mount -t xenfs xenfs /proc/xen
xenstored --pid-file=/run/xenstored.pid
xen-init-dom0 >/dev/null
xenconsoled --pid-file /run/xenconsoled.pid
. /etc/paths
cd "$CHECKOUT"
echo "== dom0 $(cut -d. -f1 /proc/uptime)"
python3 -m pytest -v -rA --tb=short --color=no --noconftest -c /dev/null --rootdir=. -p no:cacheprovider tests/xen/real/checks.py
echo "== end $?"
poweroff -f
