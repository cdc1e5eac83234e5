#!/bin/sh
# Everything that a variant decides, as text to compare. Not: host keys, which are each host's own.
set -eu
{
    systemctl list-unit-files --no-legend --plain
    systemctl list-units --all --no-legend --plain --type=service,socket,target '*getty*' '*ssh*' \
        | awk '{ print $1, $3, $4 }' | grep -v '@'
    find /etc/ssh /etc/systemd /usr/local/lib/gantry /mnt/state/gantry/ssh ! -name 'ssh_host_*' \
        \( -type f -exec sha256sum {} + , -printf '%M %u %p -> %l\n' \)
    passwd --status root | cut -d ' ' -f 1,2
    ss -H -l -n -t -u | awk '{ print $1, $5 }'
} | sort
