#!/bin/bash
# The link service, from its inputs to a redirect over HTTPS from the booted disk:
#
#   demo.sh STANDBY FOLDER OUTDIR
#
# FOLDER has standby.toml, the image, the snapshot, caddy and kit (make fixtures).
set -euo pipefail
standby=$(realpath "${1:?usage: demo.sh STANDBY FOLDER OUTDIR}")
folder=$(realpath "${2:?}")
rm -rf "${3:?}"
mkdir -p "$3"
out=$(realpath "$3")
here=$(cd "$(dirname "$0")" && pwd)
# What was accepted is remembered here, not on the machine.
export STANDBY_STATE=$out/state

began=0
step() {
    finish
    printf '\n== %s\n' "$1"
    began=$(date +%s%N)
}
finish() {
    if [ "$began" != 0 ]; then
        printf '   took %d ms\n' $((($(date +%s%N) - began) / 1000000))
        began=0
    fi
}

step "a key to sign with (a real one lives elsewhere)"
"$standby" keys generate --user-id 'Demo <demo@example.org>' -o "$out" --name demo

step "bake: runtime, snapshot, front and boot kit into one signed bundle, and its disk"
"$standby" build -f "$folder/standby.toml" -o "$out" --signer-key "$out/demo.key.pgp"

bundle=$(ls "$out"/*.oci.tar)
disk=$(ls "$out"/*.raw)
step "verify the bundle, with the certificate alone"
"$standby" verify "$bundle" --trust "$out/demo.cert.pgp"

step "derive the disk again from the bundle, as an operator would, and compare"
"$standby" disk "$bundle" --trust "$out/demo.cert.pgp" -o "$out/again.raw"
cmp "$disk" "$out/again.raw" && echo "   byte for byte the same"
rm "$out/again.raw"

for firmware in bios uefi; do
    step "boot it by $firmware, without a network beyond this one port, and follow a link over HTTPS"
    "$here/boot.sh" "$firmware" "$disk" "$out/console-$firmware.log" \
        links.example.org /go/standby https://example.org/it-works
done
finish
printf '\nThe bundle, the disk and what a person needs to check them: %s\n' "$out"
