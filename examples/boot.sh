#!/bin/bash
# Boots a disk under QEMU and asks it one question over HTTPS:
#
#   boot.sh bios|uefi DISK CONSOLE-LOG HOST PATH LOCATION
#
# The guest reaches nothing: the one forwarded port lets the question in. The
# disk is opened read-only; QEMU's own emulator runs it (no KVM).
set -euo pipefail
firmware=${1:?usage: boot.sh bios|uefi DISK CONSOLE-LOG HOST PATH LOCATION}
disk=${2:?} console=${3:?} host=${4:?} path=${5:?} location=${6:?}
# A free port on loopback.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
qemu=(qemu-system-x86_64 -machine "q35,accel=tcg" -cpu max -smp 2 -m 1024 -nodefaults -no-reboot
    -display none -serial "file:$console" -snapshot
    -drive "file=$disk,format=raw,if=virtio" -device virtio-rng-pci
    -nic "user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:$port-:443")
if [ "$firmware" = uefi ]; then
    vars=$(mktemp)
    cp /usr/share/OVMF/OVMF_VARS_4M.fd "$vars"
    qemu+=(-drive "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"
        -drive "if=pflash,format=raw,file=$vars")
fi
: >"$console"
# What it says itself matters only if it fails: its end is one of our making.
"${qemu[@]}" 2>"$console.qemu" &
pid=$!
trap 'kill $pid 2>/dev/null || true; wait $pid 2>/dev/null || true; rm -f "${vars:-}" "$console.qemu"' EXIT
began=$(date +%s%N)
ask=(curl --silent --insecure --noproxy '*' --max-time 5 --resolve "$host:$port:127.0.0.1")
while :; do
    answer=$("${ask[@]}" --output /dev/null --write-out '%{http_code} %{redirect_url}' "https://$host:$port$path" || true)
    [ "$answer" = "302 $location" ] && break
    if ! kill -0 $pid 2>/dev/null || [ $((($(date +%s%N) - began) / 1000000000)) -gt 120 ]; then
        echo "no redirect (last answer: $answer); the console said:" >&2
        tail -n 40 "$console" "$console.qemu" >&2
        exit 1
    fi
    sleep 0.05
done
printf '   https://%s%s -> %s, %d ms after power-on\n' "$host" "$path" "$answer" \
    $((($(date +%s%N) - began) / 1000000))
state=$("${ask[@]}" "https://$host:$port/-/standby")
jq -r '"   it says: \(.service) \(.version), sequence \(.sequence), \(.status), signed for \(.signer.user_id)",
    "   \(.bundle_digest)",
    "   phases of the boot, in ms: \([.boot_ms[] | "\(.name) \(.ms)"] | join(", "))"' <<<"$state"
