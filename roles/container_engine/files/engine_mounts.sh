#!/bin/sh
# engine-mounts FILE: makes the mount namespace of the container engine, which FILE then holds.
# slave: what the host mounts later is seen in it, and nothing of it in the host.
# shared: applications may ask for mounts that they share among themselves.
set -eu

file=$1
folder=$(dirname "$file")
mkdir -p "$folder"
# A file that holds a mount namespace has to be on a private mount.
mountpoint --quiet "$folder" || mount --bind --make-private "$folder" "$folder"
touch "$file"

# The kernel refuses to hold a namespace that it takes for older than the one that holds it. Since
# Linux 6.18 each processor numbers them by itself: that of the older one is sure to do.
for cpu in $(seq 0 $(($(nproc --all) - 1))); do
    if error=$(taskset --cpu-list "$cpu" unshare --mount="$file" --propagation slave \
        mount --make-rshared / 2>&1); then
        exit 0
    fi
done
echo "no mount namespace can be held at $file: $error" >&2
exit 1
