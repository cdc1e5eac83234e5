#!/bin/sh
# Host keys of SSH on port 22222: made on the state partition at the first start, and again where a
# power loss left half a key.
set -eu

FOLDER=${GANTRY_SSH:-/mnt/state/gantry/ssh}

umask 077
mkdir -p "$FOLDER"
for kind in ed25519 ecdsa; do
    key=$FOLDER/ssh_host_${kind}_key
    if [ -f "$key.pub" ] && ssh-keygen -y -P '' -f "$key" > /dev/null 2>&1; then
        continue
    fi
    rm -f "$FOLDER/new" "$FOLDER/new.pub"
    ssh-keygen -q -t "$kind" -N '' -C "$(uname -n)" -f "$FOLDER/new"
    sync "$FOLDER/new" "$FOLDER/new.pub"
    mv "$FOLDER/new.pub" "$key.pub"
    mv "$FOLDER/new" "$key"
    sync "$FOLDER"
    echo "a new host key: $(ssh-keygen -l -f "$key.pub")"
done
