#!/bin/bash
# Boots the disk and a bare control in turns under QEMU's emulator, and measures
# the way to the first HTTPS 200:
#
#   boot.sh DISK OUTDIR RUNS HOST PATH
#
# HOST and PATH: what is asked for. Three machines, in turns, RUNS times each:
#   disk     the disk, by its BIOS loader
#   direct   the disk's own kernel, initrd and options, given to QEMU; the disk attached
#   control  that kernel, an initrd with the same Caddy and nginx; no disk
# OUTDIR/boot.tsv gets `machine phase milliseconds`, the medians. Phases count
# from the kernel's start, but for `power-on-to-200`.
set -euo pipefail
disk=$(realpath "${1:?usage: boot.sh DISK OUTDIR RUNS HOST PATH}")
mkdir -p "${2:?}"
out=$(realpath "$2")
runs=${3:?} host=${4:?} path=${5:?}
here=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C
# Longest wait for an answer, in seconds.
patience=120

# The parts of the disk, by their GPT types.
partition() {
    sfdisk --json "$disk" | jq -r --arg type "$1" \
        '.partitiontable.partitions[] | select(.type == $type) | "\(.start) \(.size)"'
}

take_apart() {
    local start size
    read -r start _ < <(partition C12A7328-F81F-11D2-BA4B-00A0C93EC93B)
    for file in vmlinuz initrd grub.cfg; do
        mcopy -n -o -i "$disk@@$((start * 512))" "::/standby/$file" "$work/$file"
    done
    sed -n 's/^linux [^ ]* //p' "$work/grub.cfg" >"$work/cmdline"
    # The control's kernel gets the same options but for the root's.
    sed 's/\(roothash\|standby\.[a-z-]*\)=[^ ]* *//g' "$work/cmdline" >"$work/control.cmdline"
    read -r start size < <(partition 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709)
    dd if="$disk" of="$work/root.erofs" bs=1M iflag=skip_bytes,count_bytes \
        skip=$((start * 512)) count=$((size * 512)) status=none
    rm -rf "$work/root"
    fsck.erofs --extract="$work/root" "$work/root.erofs" >/dev/null
    rm "$work/root.erofs"
}

# A program and the shared libraries it needs, from one tree into another.
copy_with_libraries() {
    local from=$1 to=$2 file found name
    local queue=("$3")
    while [ ${#queue[@]} -gt 0 ]; do
        file=${queue[0]}
        queue=("${queue[@]:1}")
        [ -e "$to$file" ] && continue
        mkdir -p "$to${file%/*}"
        cp -L "$from$file" "$to$file"
        for name in $(readelf -d "$from$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
            found=$(cd "$from" && find lib/ usr/lib/ lib64/ -name "$name" 2>/dev/null | head -n 1)
            # They go where the image has them: beneath a folder that the loader searches.
            [ -n "$found" ] || { echo "boot.sh: no library $name in the image" >&2; exit 1; }
            queue+=("/$found")
        done
    done
}

# A module's file names in load order, itself last.
load_order() {
    local need
    for need in $(modinfo -F depends "$work/initrd.d/modules/$1.ko" | tr ',' ' '); do
        load_order "$need"
    done
    echo "$1"
}

make_control() {
    local tree=$work/control.d front=$work/root/containers/front/rootfs
    local runtime=$work/root/containers/runtime/rootfs interpreter
    rm -rf "$tree" "$work/initrd.d"
    mkdir -p "$tree"/{control,dev,proc,sys,tmp,config,data,modules} "$work/initrd.d"
    cc -O2 -static -o "$tree/init" "$here/control-init.c"
    zstd -dcq "$work/initrd" | (cd "$work/initrd.d" && cpio --quiet -id --no-absolute-filenames 'modules/*')
    # The card, and the random numbers that the guest loads as well.
    for module in virtio_pci virtio_net virtio_rng; do load_order "$module"; done | awk '!seen[$0]++' \
        | while read -r name; do
            cp "$work/initrd.d/modules/$name.ko" "$tree/modules/"
            echo "/modules/$name.ko"
        done >"$tree/control/modules"
    mkdir -p "$tree/usr/bin" "$tree/etc/nginx" "$tree/srv/links" "$tree/lib64" "$tree/usr/share"
    cp "$front/usr/bin/caddy" "$tree/usr/bin/"
    cp -r "$front/etc/caddy" "$tree/etc/"
    cp -r "$front/usr/share/standby" "$tree/usr/share/"
    copy_with_libraries "$runtime" "$tree" /usr/sbin/nginx
    interpreter=$(readelf -l "$runtime/usr/sbin/nginx" | sed -n 's/.*interpreter: \(.*\)]/\1/p')
    [ -e "$tree$interpreter" ] || cp -L "$runtime$interpreter" "$tree$interpreter"
    cp "$runtime/etc/nginx/nginx.conf" "$tree/etc/nginx/"
    cp "$work/root/snapshot/"* "$tree/srv/links/"
    mkdir -p "$tree/run" "$tree/var/lib/nginx"
    chmod -R a+rX "$tree"
    chmod 1777 "$tree/run" "$tree/var/lib/nginx" "$tree/tmp"
    find "$tree" -exec touch -h -d @0 {} +
    (cd "$tree" && find . | sort | cpio --quiet -o -H newc --owner=0:0 --reproducible) >"$work/control.cpio"
    # As the kit's own initrd is compressed; slow, so only for a new one.
    if ! sha256sum --status -c "$work/control.cpio.sha256" 2>/dev/null || [ ! -e "$work/control.zst" ]; then
        zstd -q -19 -T0 -f -o "$work/control.zst" "$work/control.cpio"
        sha256sum "$work/control.cpio" >"$work/control.cpio.sha256"
    fi
    rm "$work/control.cpio"
}

# Host seconds before each line of the console; OUT.up appears with the network.
stamp() {
    local line
    while IFS= read -r line; do
        printf '%s %s\n' "$EPOCHREALTIME" "$line"
        case $line in *'standby: network on '* | *'control: phase network'*) : >"$1.up" ;; esac
    done >"$1"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

ask() {
    curl --silent --insecure --noproxy '*' --connect-timeout 0.5 --max-time 20 \
        --resolve "$host:$port:127.0.0.1" "$@"
}

# boot MACHINE RUN QEMU-ARGUMENTS...: appends `machine phase milliseconds` to runs.tsv.
boot() {
    local machine=$1 log=$work/console-$1-$2.log power_on answered began code port
    shift 2
    port=$(free_port)
    rm -f "$log" "$log.up"
    power_on=$EPOCHREALTIME
    qemu-system-x86_64 -machine q35,accel=tcg -cpu max -smp 2 -m 1024 -nodefaults -no-reboot \
        -display none -serial stdio -device virtio-rng-pci \
        -nic "user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:$port-:443" \
        "$@" </dev/null 2>"$log.qemu" > >(stamp "$log") &
    pid=$!
    began=$SECONDS
    code=
    while [ "$code" != 200 ]; do
        if ! kill -0 "$pid" 2>/dev/null || [ $((SECONDS - began)) -gt $patience ]; then
            echo "boot.sh: $machine does not answer (last: ${code:-nothing}); its console:" >&2
            tail -n 30 "$log.qemu" "$log" >&2
            exit 1
        fi
        # Before the network is up a question would only disturb.
        if [ -e "$log.up" ]; then
            code=$(ask --output /dev/null --write-out '%{http_code}' "https://$host:$port$path" || true)
        fi
        [ "$code" = 200 ] || sleep 0.02
    done
    answered=$EPOCHREALTIME
    if [ "$machine" != control ]; then
        # The last phases are noticed a little later than they end.
        sleep 0.5
        ask "https://$host:$port/-/standby" >"$log.state"
    fi
    kill "$pid"
    wait "$pid" 2>/dev/null || true
    pid=
    record "$machine" "$log" "$power_on" "$answered"
}

record() {
    local machine=$1 log=$2
    awk -v machine="$machine" -v power_on="$3" -v answered="$4" '
        # Every line says its milliseconds since the kernel started; the one that
        # came through fastest says best when that was.
        match($0, /\[ *[0-9]+ ms\] (standby|control): /) {
            ms = substr($0, RSTART + 1) + 0
            start = $1 - ms / 1000
            if (!kernel || start < kernel) kernel = start
            if (match($0, /control: phase /)) printf "%s\t%s\t%d\n", machine, substr($0, RSTART + 15), ms
        }
        END {
            printf "%s\tfirst-200\t%d\n", machine, (answered - kernel) * 1000
            printf "%s\tpower-on-to-200\t%d\n", machine, (answered - power_on) * 1000
        }' "$log" | tr -d '\r' >>"$work/runs.tsv"
    if [ -e "$log.state" ]; then
        jq -r --arg machine "$machine" '.boot_ms[] | "\($machine)\t\(.name)\t\(.ms)"' "$log.state" \
            >>"$work/runs.tsv"
    fi
}

medians() {
    sort -t$'\t' -k1,2 -k3,3n "$work/runs.tsv" | awk -F'\t' '
        function flush() { if (n) printf "%s\t%d\n", key, n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2 }
        $1 "\t" $2 != key { flush(); key = $1 "\t" $2; n = 0 }
        { v[++n] = $3 }
        END { flush() }'
}

work=$out/boot
mkdir -p "$work"
rm -f "$work/runs.tsv"
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true' EXIT
take_apart
make_control
drive=(-snapshot -drive "file=$disk,format=raw,if=virtio")
for run in $(seq "$runs"); do
    boot disk "$run" "${drive[@]}"
    boot direct "$run" "${drive[@]}" -kernel "$work/vmlinuz" -initrd "$work/initrd" \
        -append "$(cat "$work/cmdline")"
    boot control "$run" -kernel "$work/vmlinuz" -initrd "$work/control.zst" \
        -append "$(cat "$work/control.cmdline")"
done
medians >"$out/boot.tsv"
rm -rf "$work/root" "$work/control.d" "$work/initrd.d"
