#!/bin/sh
# The first program in the guest: lays a private copy-on-write over the host's files and becomes the agent.
#   vm_guest.sh ROOT-OF-PACKAGE KERNEL-MODULES DIRECTORY:DIRECTORY... AGENT...
# The directories are on disks of their own, in this order: /dev/vda is the first.
# The guest's own root is served without a cache and is slow; the second export of the same files is cached. Nothing of
# the host can be written: the export is read-only, and what is written here is kept in the guest's memory.
set -e
package=$1 modules=$2 libraries=$3
shift 3
kernel=$(uname -r)
mount --make-rprivate /
mkdir -p /run/host /run/own /run/new
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,ro,access=any,msize=512000 dmvpn.host /run/host
mount -t tmpfs -o mode=0755,size=75% tmpfs /run/own
mkdir /run/own/files /run/own/work
mount -t overlay -o lowerdir=/run/host,upperdir=/run/own/files,workdir=/run/own/work overlay /run/new
cd /run/new
for one in proc sys dev; do mount --rbind "/$one" "/run/new/$one"; done
mount -t tmpfs -o mode=0755 tmpfs /run/new/run
mkdir -p "/run/new/usr/lib/modules" /run/new/run/lock /run/new/run/host
rm -rf "/run/new/usr/lib/modules/$kernel"
ln -s "$modules" "/run/new/usr/lib/modules/$kernel"
pivot_root . run/host
umount -l /run/host
rmdir /run/host
cd /
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# What a stock kernel has and this host's may not. One that is missing is a test's to miss.
for one in tun af_packet overlay ip_gre esp4 esp6 xfrm_user nf_tables nfnetlink_log sch_netem 8021q bonding ppp_generic pppoe ppp_async; do
    modprobe -q "$one" || echo "vm: this kernel has no module $one"
done
modprobe -q -a virtio_blk ext4 || true
# A machine's own start loads it where the processor does AES: without it ESP takes three times as long, or, emulated,
# most of the time there is.
modprobe -q aesni_intel || true
disks='vda vdb vdc vdd'
IFS=:
for one in $libraries; do
    mount -t ext4 -o ro "/dev/${disks%% *}" "$one" || echo "vm: $one is read as all other files"
    disks=${disks#* }
done
unset IFS
ip link set lo up
# Our own source is read from memory: it is read again by every process of a lab.
case $package in
*/src)
    cp -a "$package" /run/src
    mount --bind /run/src "$package"
    ;;
esac
exec "$@"
