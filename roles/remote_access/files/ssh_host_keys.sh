#!/bin/sh
# Host keys of SSH on port 22222: made on the state partition at the first start, and again where a
# power loss left half a key. Where the state partition is broken, in memory: whoever is to repair
# the device must get in.
set -eu

FOLDER=${GANTRY_SSH:-/mnt/state/gantry/ssh}
RUN=${GANTRY_RUN:-/run/gantry}
SETTINGS=$RUN/ssh-host-keys.conf

umask 077
# The folder of all our services: others read there.
[ -d "$RUN" ] || mkdir -m 0755 "$RUN"
if ! mkdir -p "$FOLDER" 2> /dev/null || ! [ -w "$FOLDER" ]; then
    echo "$FOLDER cannot be written: host keys are for this boot only" >&2
    FOLDER=$RUN/ssh
    mkdir -p "$FOLDER"
fi
for kind in ed25519 ecdsa; do
    key=$FOLDER/ssh_host_${kind}_key
    if ! [ -f "$key.pub" ] || ! ssh-keygen -y -P '' -f "$key" > /dev/null 2>&1; then
        rm -f "$FOLDER/new" "$FOLDER/new.pub"
        ssh-keygen -q -t "$kind" -N '' -C "$(uname -n)" -f "$FOLDER/new"
        sync "$FOLDER/new" "$FOLDER/new.pub"
        mv "$FOLDER/new.pub" "$key.pub"
        mv "$FOLDER/new" "$key"
        sync "$FOLDER"
        echo "a new host key: $(ssh-keygen -l -f "$key.pub")"
    fi
done
printf 'HostKey %s\n' "$FOLDER/ssh_host_ed25519_key" "$FOLDER/ssh_host_ecdsa_key" > "$SETTINGS"
