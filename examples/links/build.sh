#!/bin/bash
# Builds the link service's image, as two layers: a small Debian, and nginx on it.
# Packages come from wherever this machine's own apt gets them. Needs root.
#
#   build.sh OUTDIR
#
# OUTDIR gets image/ (OCI layout, tag `links`), links.docker.tar (the same image
# as `docker save` writes it), snapshot/ and standby.toml.
set -euo pipefail
out=${1:?usage: build.sh OUTDIR}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/links.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 0755 "$work"

export SOURCE_DATE_EPOCH=1767225600 LC_ALL=C TZ=UTC
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")

# This machine's Debian sources, and how its apt fetches them (proxy, checks).
sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list.d/debian.list; do
    if [ -s "$file" ]; then sources+=("$file"); fi
done
apt-config dump Acquire | grep -E '^Acquire::([^ ]*::)?(Proxy|Check-[A-Za-z-]*|Retries)[ :]' >"$work/apt.conf" || true

# Nothing of this machine's package sources, caches or logs belongs in a layer.
cat >"$work/tidy" <<'TIDY'
#!/bin/sh
set -eu
cd "$1"
rm -rf var/lib/apt/lists/* var/cache/apt/* var/cache/debconf/*-old var/lib/dpkg/*-old
rm -rf var/cache/ldconfig/* var/log/apt var/log/dpkg.log var/log/alternatives.log var/log/bootstrap.log
rm -f etc/apt/sources.list etc/apt/sources.list.d/* etc/apt/apt.conf.d/99mmdebstrap
rm -f etc/hostname etc/resolv.conf etc/machine-id
TIDY
chmod 0755 "$work/tidy"

mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
    --aptopt="$work/apt.conf" --dpkgopt='path-exclude=/usr/share/man/*' \
    --include=ca-certificates,openssl,perl,tzdata \
    `# -x: /proc, /sys and /dev are mounted while hooks run` \
    --customize-hook="cp -ax \"\$1\" $work/base" \
    --customize-hook='chroot "$1" true && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes -oDPkg::Chroot-Directory="$1" --no-install-recommends install nginx' \
    --customize-hook="cp $here/nginx.conf \"\$1/etc/nginx/nginx.conf\"" \
    "$suite" "$work/full" "${sources[@]}"
for tree in base full; do
    "$work/tidy" "$work/$tree"
    find "$work/$tree"/{dev,proc,sys,run,tmp} -mindepth 1 -delete 2>/dev/null || true
    find "$work/$tree" -xdev -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference -d "@$SOURCE_DATE_EPOCH" {} +
done

# Each tree becomes the unpacked image in turn; umoci writes the difference.
rm -rf "$out/image"
umoci init --layout "$out/image"
umoci new --image "$out/image:links"
for tree in base full; do
    rm -rf "$work/bundle"
    umoci unpack --image "$out/image:links" "$work/bundle"
    find "$work/bundle/rootfs" -mindepth 1 -delete
    cp -ax "$work/$tree/." "$work/bundle/rootfs/"
    umoci repack --image "$out/image:links" --history.created "$created" \
        --history.author "examples/links" --history.created_by "examples/links/build.sh: $tree" "$work/bundle"
done
umoci config --image "$out/image:links" --created "$created" --no-history \
    --config.user www-data --config.workingdir / --config.exposedports 8080/tcp \
    --config.volume /var/lib/nginx --config.stopsignal SIGQUIT \
    --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    --config.entrypoint nginx --config.cmd -e --config.cmd stderr
umoci gc --layout "$out/image"
chmod -R a+rX "$out/image"
rm -f "$out/links.docker.tar"
skopeo copy --quiet "oci:$out/image:links" "docker-archive:$out/links.docker.tar:example.org/links:1.0.0"

rm -rf "$out/snapshot"
"$here/generate.sh" "$out/snapshot"
cp "$here/standby.toml" "$out/standby.toml"
du -sb "$work/full" | sed "s/\t.*/ bytes unpacked/" >&2
