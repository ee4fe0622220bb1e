#!/bin/bash
# Builds the quick example's image from its static binary. Needs no root and no
# network (Cargo's packages must have been fetched).
#
#   build.sh OUTDIR
#
# OUTDIR gets image/ (OCI layout, tag `tiny`), tiny.docker.tar (the same image as
# `docker save` writes it), snapshot/ and standby.toml.
set -euo pipefail
out=${1:?usage: build.sh OUTDIR}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/tiny.XXXXXX")
trap 'rm -rf "$work"' EXIT
export SOURCE_DATE_EPOCH=1767225600 LC_ALL=C TZ=UTC
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)

cd "$here/../.."
cargo build --release --locked -p standby-example-tiny
target=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)
binary=$target/x86_64-unknown-linux-gnu/release/standby-example-tiny

mkdir -p "$work/root/usr/bin" "$work/root/etc" "$work/root/tmp" "$work/root/srv/site"
install -m 0755 "$binary" "$work/root/usr/bin/tiny"
strip "$work/root/usr/bin/tiny"
printf 'root:x:0:0:root:/root:/sbin/nologin\ntiny:x:1000:1000::/:/sbin/nologin\n' >"$work/root/etc/passwd"
printf 'root:x:0:\ntiny:x:1000:\nextra:x:1001:tiny\n' >"$work/root/etc/group"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --mode=u+rw,go+r \
    --format=posix --pax-option=delete=atime,delete=ctime -C "$work/root" -cf "$work/layer.tar" etc srv tmp usr

rm -rf "$out/image"
umoci init --layout "$out/image"
umoci new --image "$out/image:tiny"
umoci raw add-layer --image "$out/image:tiny" --history.created "$created" \
    --history.author examples/tiny --history.created_by examples/tiny/build.sh "$work/layer.tar"
umoci config --image "$out/image:tiny" --created "$created" --no-history \
    --config.exposedports 8080/tcp --config.entrypoint /usr/bin/tiny --config.cmd 8080 --config.cmd /srv/site
umoci gc --layout "$out/image"
chmod -R a+rX "$out/image"
rm -f "$out/tiny.docker.tar"
skopeo copy --quiet "oci:$out/image:tiny" "docker-archive:$out/tiny.docker.tar:example.org/tiny:1.0.0"

rm -rf "$out/snapshot"
mkdir -p "$out/snapshot/notes"
echo 'last known good' >"$out/snapshot/index.txt"
echo 'kept with the service' >"$out/snapshot/notes/readme.txt"
cp "$here/standby.toml" "$out/standby.toml"
