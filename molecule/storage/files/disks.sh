#!/bin/bash
# Small disks with the labels of a device's partitions. They go when nothing uses them. No boot
# partition: not every kernel that runs containers has FAT.
set -euo pipefail

mkdir /var/tmp/disks
# Says which loop device is free. Not every engine gives containers one.
[ -c /dev/loop-control ] || mknod /dev/loop-control c 10 237
for name in state data; do
    file=/var/tmp/disks/$name
    truncate --size=32M "$file"
    mkfs.ext4 -q -L "resin-$name" "$file"
    for _ in $(seq 20); do
        device=$(losetup --find)
        [ -b "$device" ] || mknod "$device" b 7 "${device#/dev/loop}"
        ! losetup "$device" "$file" || break
        # Another took it in between.
        sleep 0.2
    done
    echo "$device" >> /var/tmp/disks/devices
done
