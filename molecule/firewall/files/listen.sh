#!/bin/bash
# What a test of ports needs: something behind each of them, on IPv4 and IPv6.
set -euo pipefail

systemctl disable --quiet --now ssh.service
ip address replace 10.114.102.1/32 dev lo
sysctl --quiet --write net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.eth0.disable_ipv6=0
systemctl enable --quiet --now answer.service
