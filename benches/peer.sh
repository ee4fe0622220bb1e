#!/bin/bash
# The usual pipeline from an OCI image to a file tree under dm-verity, a boot
# partition and a tar: what `standby build` is measured against.
#
#   peer.sh IMAGE BOOT-FOLDER CADDY SNAPSHOT WORK
#
# IMAGE: oci:FOLDER:TAG. BOOT-FOLDER has uki, vmlinuz and initrd. WORK is replaced.
# With COMPLETE=1 it goes on to what a build leaves behind: the parts put together
# to a disk, SHA256SUMS of both files, and all of it on the medium.
set -euo pipefail
image=${1:?usage: peer.sh IMAGE BOOT-FOLDER CADDY SNAPSHOT WORK}
boot=${2:?} caddy=${3:?} snapshot=${4:?} work=${5:?}
PATH=$PATH:/usr/sbin:/sbin
rm -rf "$work"
mkdir -p "$work"
rootless=()
[ "$(id -u)" = 0 ] || rootless=(--rootless)

skopeo copy --quiet "$image" "oci:$work/image:peer"
umoci unpack "${rootless[@]}" --image "$work/image:peer" "$work/unpacked" >"$work/umoci.log" 2>&1
mkdir -p "$work/unpacked/rootfs/front" "$work/unpacked/rootfs/snapshot"
cp "$caddy" "$work/unpacked/rootfs/front/caddy"
cp -r "$snapshot/." "$work/unpacked/rootfs/snapshot/"
mkfs.erofs "$work/root.erofs" "$work/unpacked/rootfs" >"$work/mkfs.log" 2>&1
veritysetup format "$work/root.erofs" "$work/root.verity" >"$work/verity.log"
truncate -s 40M "$work/esp"
mkfs.vfat -F 32 "$work/esp" >"$work/vfat.log"
mmd -i "$work/esp" ::/EFI ::/EFI/BOOT ::/standby
mcopy -i "$work/esp" "$boot/uki" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$work/esp" "$boot/vmlinuz" "$boot/initrd" ::/standby/
tar -C "$work" -cf "$work/bundle.tar" image
[ "${COMPLETE:-}" = 1 ] || exit 0

blocks() { echo $(($(stat -c %s "$1") / 512)); }
root=$((34816 + $(blocks "$work/esp")))
verity=$((root + $(blocks "$work/root.erofs")))
truncate -s "$(((verity + $(blocks "$work/root.verity") + 2048) * 512))" "$work/disk.raw"
sfdisk -q "$work/disk.raw" >"$work/sfdisk.log" <<PARTITIONS
label: gpt
start=34816, size=$(blocks "$work/esp"), type=uefi
start=$root, size=$(blocks "$work/root.erofs"), type=linux
start=$verity, size=$(blocks "$work/root.verity"), type=linux
PARTITIONS
put() { dd if="$1" of="$work/disk.raw" bs=1M oflag=seek_bytes seek=$(($2 * 512)) conv=notrunc,sparse status=none; }
put "$work/esp" 34816
put "$work/root.erofs" "$root"
put "$work/root.verity" "$verity"
(cd "$work" && sha256sum bundle.tar disk.raw >SHA256SUMS)
sync "$work/bundle.tar" "$work/disk.raw" "$work/SHA256SUMS"
