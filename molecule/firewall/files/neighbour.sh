#!/bin/bash
# IPv6 for somebody on the network; Docker has it off where the network is none.
set -euo pipefail

mount -o remount,rw /proc/sys
sysctl --quiet --write net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.eth0.disable_ipv6=0
