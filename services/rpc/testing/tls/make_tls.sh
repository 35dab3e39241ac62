#!/usr/bin/env bash
# Keys and certificates for tests, good for a hundred years: an authority, a server and a client it signed, and a client that
# another one signed. They protect nothing. Needs openssl.
set -euo pipefail
cd "$(dirname "$0")"
authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj "/CN=$1" -keyout "$1.key" -out "$1.pem"
}
signed() { # NAME AUTHORITY
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
  openssl x509 -req -days 36500 -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -out "$1.pem" \
    -extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1")
}
authority ca
authority other
signed server ca
signed client ca
signed stranger other
rm -f ./*.csr ./*.srl ca.key other.key other.pem
