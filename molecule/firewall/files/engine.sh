#!/bin/bash
# A Docker Engine with a container that publishes a port, and a tunnel named as the device's VPN is.
set -euo pipefail

group=$(sed -n 's/^[0-9]*:\([^:]*,\)\{0,1\}memory\(,[^:]*\)\{0,1\}:\(.*\)$/\3/p' /proc/1/cgroup)
option=()
[ -f /sys/fs/cgroup/cgroup.controllers ] || option=(--cgroup-parent="${group%/init.scope}/engine")
systemd-run --quiet --unit=engine dockerd --data-root=/mnt/data/docker "${option[@]}"
for _ in $(seq 60); do
    ! docker info > /dev/null 2>&1 || break
    sleep 1
done

# An image that has Python and nothing else, of the host's own files.
libraries=$(ldd /usr/bin/python3 | grep -o "/[^ ]*")
tar --create --dereference --absolute-names --exclude='*.pyc' --exclude='*/test/*' \
    /usr/bin/python3 "/usr/lib/$(basename "$(readlink -f /usr/bin/python3)")" $libraries /usr/local/bin/answer \
    | docker import --change 'ENTRYPOINT ["/usr/bin/python3"]' - application > /dev/null

docker network create applications > /dev/null
docker run --detach --name published --publish 8888:80 application /usr/local/bin/answer > /dev/null
docker run --detach --name bridged application /usr/local/bin/answer > /dev/null
docker run --detach --name networked --network applications application /usr/local/bin/answer > /dev/null

ip netns add cloud
ip link add resin-vpn type veth peer name far netns cloud
ip address add 100.64.0.2/10 dev resin-vpn
ip link set resin-vpn up
ip -n cloud address add 100.64.0.1/10 dev far
# Another device, were the servers to let it through.
ip -n cloud address add 100.64.0.3/10 dev far
ip -n cloud link set far up

iptables-save | grep -v '^#' | sed 's/\[[0-9:]*\]//' > /var/tmp/engine-rules
