#!/bin/bash
# Becomes init on a file system, cgroup and /run of its own, over the host's programs. Called in new namespaces.
#   boot.sh LAYERS KEPT DISK INIT...    KEPT is a directory that is the same inside; DISK is what survives a "reboot"
# DMVPN_UNPACKED has packages that this machine has not installed: they are laid over its root.
set -e
layers=$1 kept=$2 disk=$3
shift 3
mount --make-rprivate /
mount -t tmpfs -o mode=0755 layers "$layers"
first=$([ -d "$disk/upper" ] || echo yes)
mkdir -p "$disk/upper" "$disk/work" "$layers/root" "$layers/unpacked"
[ -z "$DMVPN_UNPACKED" ] || cp -a "$DMVPN_UNPACKED/." "$layers/unpacked"
mount -t overlay -o "lowerdir=$layers/unpacked:/,upperdir=$disk/upper,workdir=$disk/work" overlay "$layers/root"
root=$layers/root
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for directory in run tmp dev; do mount -t tmpfs -o mode=0755 none "$root/$directory"; done
chmod 1777 "$root/tmp"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
# Another boot, as far as anybody can tell.
cat /proc/sys/kernel/random/uuid >"$layers/boot_id"
mount --bind "$layers/boot_id" "$root/proc/sys/kernel/random/boot_id"
mkdir -p "$root/dev/net" "$root/dev/pts" "$root/dev/shm"
touch "$root/dev/net/tun"
mount --bind /dev/net/tun "$root/dev/net/tun"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mkdir -p "$root$kept" "$root/old"
mount --bind "$kept" "$root$kept"
cd "$root"
pivot_root . old
umount -l /old
# Nothing of the host's own starts; a Debian of its own would be the same with more downloads.
[ -z "$first" ] || rm -rf /etc/systemd/system/*.wants /etc/systemd/system/*.requires
ln -sfn /lib/systemd/system/multi-user.target /etc/systemd/system/default.target
exec env -i container=opendmvpn PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
