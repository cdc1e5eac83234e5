#!/bin/bash
# issue.sh NAME [authority]: a certificate for a server of that name; with `authority`, of a new one.
set -euo pipefail
cd /etc/openvpn/server

curve=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
if [ "${2:-}" = authority ]; then
    openssl req -x509 "${curve[@]}" -days 30 -subj "/CN=The fleet's authority" \
        -keyout ca.key -out ca.crt
fi
openssl req "${curve[@]}" -subj "/CN=$1" -keyout server.key -out server.csr
printf 'extendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n' > server.ext
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -days 30 -extfile server.ext \
    -out server.crt
