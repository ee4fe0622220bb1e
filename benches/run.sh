#!/bin/bash
# Speed, memory, sizes and the boot, beside the peers' in the same run:
#
#   run.sh STANDBY FOLDER OUTDIR
#
# FOLDER has standby.toml, the image, the snapshot, caddy and kit (make fixtures).
# What is compared runs in turns, and medians are shown: on a busy machine the
# ratios hold better than the times. RUNS (5) sets how often. A target that is
# missed is said, and is no failure; what cannot run is one.
set -euo pipefail
standby=$(realpath "${1:?usage: run.sh STANDBY FOLDER OUTDIR}")
folder=$(realpath "${2:?}")
mkdir -p "${3:?}"
out=$(realpath "$3")
here=$(cd "$(dirname "$0")" && pwd)
runs=${RUNS:-5}
export LC_ALL=C STANDBY_STATE=$out/state
table=$out/table.tsv
: >"$table"

say() { printf '\n== %s\n' "$*"; }

# row WHAT OURS PEER LIMIT UNIT: compares; LIMIT is the most that ours/peer may be.
row() {
    awk -v what="$1" -v ours="$2" -v peer="$3" -v limit="$4" -v unit="$5" 'BEGIN {
        ratio = ours / peer
        form = unit == "s" ? "%.3f s" : "%.0f " unit
        printf "%s\t" form "\t" form "\t%.2f\t<= %s\t%s\n", what, ours, peer, ratio, limit + 0,
            ratio <= limit ? "met" : "NOT MET"
    }' >>"$table"
}

# note WHAT OURS PEER UNIT: a row without a target.
note() {
    awk -v what="$1" -v ours="$2" -v peer="$3" -v unit="$4" 'BEGIN {
        form = unit == "s" ? "%.3f s" : "%.0f " unit
        printf "%s\t" form "\t" form "\t%.2f\t-\t-\n", what, ours, peer, peer ? ours / peer : 0
    }' >>"$table"
}

# bound WHAT OURS MOST UNIT: ours must be below.
bound() {
    awk -v what="$1" -v ours="$2" -v most="$3" -v unit="$4" 'BEGIN {
        printf "%s\t%.2f %s\t-\t-\t< %s %s\t%s\n", what, ours, unit, most, unit, ours < most ? "met" : "NOT MET"
    }' >>"$table"
}

# turn NAME COMMAND: runs it once, and adds its seconds to NAME's, its
# processors' to NAME-cpu's (which other work on the machine disturbs less).
# What an earlier turn has written is removed before, by nobody's clock.
turn() {
    local file=$out/times/$1
    case $1 in
        build*) rm -rf "$out/build" ;;
        pipeline*) rm -rf "$out/peer" ;;
    esac
    hyperfine --style none --runs 1 --export-json "$file.json" "$2" >"$file.log" 2>&1 \
        || { echo "run.sh: failed: $2" >&2; cat "$file.log" >&2; exit 1; }
    jq '.results[0].times[0]' "$file.json" >>"$file"
    jq '.results[0] | .user + .system' "$file.json" >>"$file-cpu"
}

# median NAME
median() {
    sort -n "$out/times/$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# peak LOG COMMAND...: MiB of the largest process that it ran.
peak() {
    local log=$1
    shift
    /usr/bin/time -v -o "$log" "$@" >/dev/null || exit 1
    awk '/Maximum resident set size/ { printf "%.1f\n", $NF / 1024 }' "$log"
}

rm -rf "$out/times" "$out/build" "$out/keys"
mkdir -p "$out/times" "$out/build" "$out/parts"
"$standby" --quiet keys generate --user-id 'Bench <bench@example.org>' -o "$out/keys" --name bench >/dev/null
key=$out/keys/bench.key.pgp
cert=$out/keys/bench.cert.pgp
build=("$standby" --quiet build -f "$folder/standby.toml" -o "$out/build" --force --signer-key "$key")
"${build[@]}" >/dev/null
bundle=$(ls "$out"/build/*.oci.tar)
disk=$(ls "$out"/build/*.raw)

# The layers of the image, as the plan names it.
reference=$(sed -n 's/^image *= *"oci:\(.*\)"$/\1/p' "$folder/standby.toml")
layout=$folder/${reference%:*}
tag=${reference##*:}
manifest=$(jq -r --arg tag "$tag" \
    '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $tag) | .digest' "$layout/index.json")
layers=$(jq -r '.layers[].digest' "$layout/blobs/${manifest/://}" | sed "s|^sha256:|$layout/blobs/sha256/|" | tr '\n' ' ')

# The same image as `docker save` writes it, without compression: a build takes
# it as it is, and skopeo compresses it.
archive=$(ls "$folder"/*.docker.tar)
saved=docker-archive:$archive:$(tar -xOf "$archive" manifest.json | jq -r '.[0].RepoTags[0]')
mkdir -p "$out/saved"
sed -E "s|^image *=.*|image = \"$saved\"|; s|^(path *= *\")([^/])|\1$folder/\2|; \
    s|^(caddy *= *\")([^/])|\1$folder/\2|; s|^(kit *= *\")([^/])|\1$folder/\2|" \
    "$folder/standby.toml" >"$out/saved/standby.toml"
build_saved=("$standby" --quiet build -f "$out/saved/standby.toml" -o "$out/build" --force --signer-key "$key")

# What the ESP holds, for the sizes and for the pipeline.
esp=$(sfdisk --json "$disk" | jq '.partitiontable.partitions[]
    | select(.type == "C12A7328-F81F-11D2-BA4B-00A0C93EC93B") | .start * 512')
mcopy -n -o -i "$disk@@$esp" ::/EFI/BOOT/BOOTX64.EFI "$out/parts/uki"
mcopy -n -o -i "$disk@@$esp" ::/standby/vmlinuz ::/standby/initrd "$out/parts/"

say "speed: $runs turns of build, its peers and verify"
for turn in $(seq "$runs"); do
    turn build-saved "${build_saved[*]} >/dev/null"
    turn pipeline-saved "$here/peer.sh $saved $out/parts $folder/caddy $folder/snapshot $out/peer"
    turn build "${build[*]} >/dev/null"
    turn gzip "gzip -dc $layers | sha256sum"
    turn build-no-exec "${build[*]} --no-exec >/dev/null"
    turn pipeline "$here/peer.sh oci:$layout:$tag $out/parts $folder/caddy $folder/snapshot $out/peer"
    turn pipeline-complete "COMPLETE=1 $here/peer.sh oci:$layout:$tag $out/parts $folder/caddy $folder/snapshot $out/peer"
    turn verify "$standby --quiet verify $bundle --trust $cert >/dev/null"
    turn openssl "openssl dgst -sha256 $bundle"
    turn deep "$standby --quiet verify --deep $bundle --trust $cert >/dev/null"
    turn caddy "env -i HOME=$out/parts XDG_DATA_HOME=$out/parts $folder/caddy version >/dev/null"
done
rm -rf "$out/peer"
row "build / gzip -dc | sha256sum" "$(median build)" "$(median gzip)" 1 s
row "build / the usual pipeline" "$(median build)" "$(median pipeline)" 0.125 s
row "build / the usual pipeline, of what docker save wrote" "$(median build-saved)" "$(median pipeline-saved)" 0.125 s
note "build / the pipeline that ends with a disk, its sums, synced" "$(median build)" "$(median pipeline-complete)" s
note "build --no-exec / gzip -dc | sha256sum" "$(median build-no-exec)" "$(median gzip)" s
note "  processor time, build / gzip" "$(median build-cpu)" "$(median gzip-cpu)" s
note "  processor time, build / the usual pipeline" "$(median build-cpu)" "$(median pipeline-cpu)" s
row "verify / openssl dgst -sha256" "$(median verify)" "$(median openssl)" 1 s
row "verify --deep / build" "$(median deep)" "$(median build)" 1 s

say "where the build's time goes"
/usr/bin/time -o "$out/parts/build.time" -f '%e s elapsed, %U s user, %S s system, %P of a processor' \
    "${build[@]}" --no-exec >/dev/null
printf 'without Caddy: %s\n' "$(cat "$out/parts/build.time")"
awk -v with="$(median build)" -v without="$(median build-no-exec)" -v start="$(median caddy)" 'BEGIN {
    printf "Caddy checks its Caddyfile: %.3f s of the build (only to start it: %.3f s)\n", with - without, start }'
if perf record -q -o "$out/parts/perf.data" -g "${build[@]}" --no-exec >/dev/null 2>&1; then
    perf report -i "$out/parts/perf.data" --no-children -g none --percent-limit 1 --stdio 2>/dev/null \
        | sed '/^#/d; /^$/d' | head -n 16 || true
    rm -f "$out/parts/perf.data"
else
    echo "(perf cannot record here; that it would say more is all that is lost)"
fi

# An image of 4 GiB in two layers, half of it incompressible, half text.
big_image() {
    [ -e "$out/big/.done" ] && return
    rm -rf "$out/big"
    mkdir -p "$out/big/image/blobs/sha256" "$out/big/snapshot"
    echo 'nothing' >"$out/big/snapshot/index.txt"
    python3 - "$out/big/image" <<'PYTHON'
import hashlib, io, json, multiprocessing, pathlib, random, sys, tarfile, zlib

layout = pathlib.Path(sys.argv[1])
blobs = layout / "blobs/sha256"
MIB = 1 << 20
TEXT = b"".join(b"%032x a line of text\n" % random.Random(line).getrandbits(128) for line in range(MIB // 53))


class Gzip:
    """Compresses what is written into a file, and hashes both sides."""

    def __init__(self, path):
        self.file, self.inner, self.outer = open(path, "wb"), hashlib.sha256(), hashlib.sha256()
        self.deflate = zlib.compressobj(1, zlib.DEFLATED, 31)

    def write(self, data):
        self.inner.update(data)
        self.put(self.deflate.compress(data))

    def put(self, data):
        self.outer.update(data)
        self.file.write(data)

    def close(self):
        self.put(self.deflate.flush())
        self.file.close()


class Content:
    """A file's bytes: every other MiB of them random, the rest lines of text."""

    def __init__(self, seed, size):
        self.random, self.left, self.index = random.Random(seed), size, 0

    def read(self, count):
        count = min(count, self.left)
        self.left -= count
        self.index += 1
        if self.index % 128 < 64:
            return self.random.randbytes(count)
        start = self.random.randrange(4096)
        return (TEXT[start:] * (count // (len(TEXT) - 4096) + 2))[:count]


def layer(spec):
    name, sizes = spec
    path = blobs / name
    out = Gzip(path)
    with tarfile.open(fileobj=out, mode="w|", bufsize=MIB, format=tarfile.PAX_FORMAT, copybufsize=16384) as tar:
        for index, size in enumerate(sizes):
            entry = tarfile.TarInfo(f"{name}/{index % 64}/{index}")
            entry.size, entry.mtime, entry.mode = size, 1767225600, 0o755
            tar.addfile(entry, Content(f"{name}{index}", size))
    out.close()
    digest = out.outer.hexdigest()
    path.rename(blobs / digest)
    return digest, out.inner.hexdigest()


def blob(value):
    data = json.dumps(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return "sha256:" + digest, len(data)


# One file of a GiB, and many small ones, in each.
specs = [("one", [1024 * MIB] + [64 << 10] * 16384), ("two", [1024 * MIB, 512 * MIB] + [2 * MIB] * 256)]
with multiprocessing.Pool(2) as pool:
    made = pool.map(layer, specs)
config, config_size = blob({
    "architecture": "amd64", "os": "linux",
    "config": {"Entrypoint": ["/one/0/0"], "ExposedPorts": {"8080/tcp": {}}},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + diff for _, diff in made]}})
manifest, manifest_size = blob({
    "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:" + digest,
                "size": (blobs / digest).stat().st_size} for digest, _ in made]})
(layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
(layout / "index.json").write_text(json.dumps({
    "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": manifest_size,
        "annotations": {"org.opencontainers.image.ref.name": "big"}}]}))
PYTHON
    cat >"$out/big/standby.toml" <<PLAN
[service]
name = "big"
version = "1"
sequence = 1
max_age = "1d"

[runtime]
image = "oci:image:big"
port = 8080
health = "/"

[snapshot]
path = "snapshot"
mount = "/srv/big"

[front]
caddy = "$folder/caddy"
hosts = ["big.example.org"]

[boot]
kit = "$(realpath "$folder/kit")"
PLAN
    touch "$out/big/.done"
}

say "memory: the demo, and an image of 4 GiB (made once, kept in $out/big)"
links_peak=$(peak "$out/parts/links.time" "${build[@]}" --no-exec)
caddy_peak=$(peak "$out/parts/caddy.time" "${build[@]}")
began=$SECONDS
big_image
printf 'the image of 4 GiB took %d s to make\n' $((SECONDS - began))
big_peak=$(peak "$out/parts/big.time" "$standby" --quiet build -f "$out/big/standby.toml" \
    -o "$out/big/out" --force --signer-key "$key" --no-exec)
printf '4 GiB built in %s\n' "$(sed -n 's/.*Elapsed.*): //p' "$out/parts/big.time")"
deep_peak=$(peak "$out/parts/big-deep.time" "$standby" --quiet verify --deep --trust "$cert" "$out"/big/out/*.oci.tar)
printf '4 GiB verified deeply in %s\n' "$(sed -n 's/.*Elapsed.*): //p' "$out/parts/big-deep.time")"
rm -rf "$out/big/out"
bound "peak memory, build of the demo (standby)" "$links_peak" 128 MiB
bound "peak memory, build of the demo (with caddy validate)" "$caddy_peak" 128 MiB
bound "peak memory, build of 4 GiB" "$big_peak" 128 MiB
bound "peak memory, verify --deep of 4 GiB" "$deep_peak" 128 MiB

say "boot: $runs turns of the disk, its kernel and initrd directly, and the bare control"
host=$(sed -n 's/^hosts *= *\["\([^"]*\)".*/\1/p' "$folder/standby.toml")
health=$(sed -n 's/^health *= *"\(.*\)"/\1/p' "$folder/standby.toml")
"$here/boot.sh" "$disk" "$out" "$runs" "$host" "$health"
phase() { awk -F'\t' -v machine="$1" -v name="$2" '$1 == machine && $2 == name { print $3 }' "$out/boot.tsv"; }
printf '%-18s %10s %10s %10s   milliseconds since the kernel started\n' phase disk direct control
awk -F'\t' '
    { ms[$1, $2] = $3; if (!($2 in seen)) { seen[$2] = 1 } ; if (!($2 in at) || $3 < at[$2]) at[$2] = $3 }
    END {
        for (name in seen) order[++n] = name
        for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++)
            if (at[order[j]] < at[order[i]]) { swap = order[i]; order[i] = order[j]; order[j] = swap }
        for (i = 1; i <= n; i++) {
            name = order[i]
            printf "%-18s %10s %10s %10s\n", name, ms["disk", name], ms["direct", name], ms["control", name]
        }
    }' "$out/boot.tsv"
row "boot, kernel start to first 200: disk / control" "$(phase disk first-200)" "$(phase control first-200)" 1.5 ms
row "boot, kernel start to first 200: direct / control" "$(phase direct first-200)" "$(phase control first-200)" 1.5 ms
note "boot, power-on to first 200: disk / control" "$(phase disk power-on-to-200)" "$(phase control power-on-to-200)" ms
# Between two phases of the same machine, beside the control's like.
gap() {
    note "  $1" "$(($(phase direct "$3") - $(phase direct "$2")))" "$(($(phase control "$5") - $(phase control "$4")))" ms
}
note "  the kernel until PID 1" "$(phase direct kernel)" "$(phase control kernel)" ms
gap "modules" kernel modules kernel modules
gap "modules to Caddy started (root, network, container)" modules front-started modules started
gap "Caddy started to Caddy listens" front-started front-listens started front-listens
gap "nginx started to healthy" runtime-started healthy started runtime-listens
gap "Caddy listens to first 200" front-listens first-200 front-listens first-200

megabytes() { stat -c '%s' "$1" | awk '{ print $1 / 1000000 }'; }
bound "initrd" "$(megabytes "$out/parts/initrd")" 12 MB
bound "UKI" "$(megabytes "$out/parts/uki")" 25 MB

say "all of it, on $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg)"
(printf 'what\tours\tpeer\tratio\ttarget\tmet\n'; cat "$table") \
    | awk -F'\t' '{ printf "%-60s %12s %12s %7s %12s  %s\n", $1, $2, $3, $4, $5, $6 }'
