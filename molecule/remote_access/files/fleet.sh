#!/bin/bash
# An api on this host, and an end of a tunnel named as the device's VPN is: name space `cloud`.
set -euo pipefail

ip netns add cloud
ip link add resin-vpn type veth peer name far netns cloud
ip address add 100.64.0.2/10 dev resin-vpn
ip link set resin-vpn up
ip -n cloud address add 100.64.0.1/10 dev far
ip -n cloud link set far up

mkdir -p /var/lib/api && cd /var/lib/api
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -keyout api.key \
    -out api.crt -subj /CN=localhost -addext subjectAltName=DNS:localhost 2> /dev/null
echo '{}' > allowed.json
systemd-run --quiet --unit=api /usr/local/bin/api
mkdir -p -m 0700 /mnt/boot
cat > /mnt/boot/config.json <<END
{"apiEndpoint": "https://localhost:8443", "uuid": "0123456789abcdef0123456789abcdef",
 "deviceApiKey": "5ecre7-0f-th3-dev1ce", "balenaRootCA": "$(base64 --wrap=0 api.crt)"}
END
