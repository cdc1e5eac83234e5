#!/bin/bash
# Something to keep, with owners and modes of its own.
set -euo pipefail

install -d -m 0750 -o daemon -g adm /var/lib/thing /var/lib/thing/deep
echo from-the-root | install -m 0640 -o daemon -g adm /dev/stdin /var/lib/thing/deep/file
echo '[connection]' | install -m 0600 /dev/stdin /etc/NetworkManager/system-connections/home
ln -s deep/file /var/lib/thing/link
