#!/usr/bin/env bash
# Fuzzes every target for SECONDS, two at a time, and says a line each: how many
# inputs were run and how many edges they reach. What makes one fail is left in
# fuzz/artifacts/TARGET/, to be made a test at the reader.
#
# usage: fuzz/run.sh SECONDS PROGRAMS [TARGET…]
set -euo pipefail

seconds=$1
programs=$(realpath "$2")
shift 2
cd "$(dirname "$0")"
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
	mapfile -t targets < <(cd fuzz_targets && ls -- *.rs | sed 's/\.rs$//')
fi
logs=../target/fuzz/logs
mkdir -p "$logs"

# Address space, in KiB: an allocation of a size that an input claims must fail
# even if the memory is never touched, which the resident set does not show.
ulimit -v 1572864
# Nor is what threads reserve a finding.
export MALLOC_ARENA_MAX=2

one() {
	local name=$1 log=$logs/$1.log status=0
	mkdir -p "corpus/$name" "artifacts/$name"
	rm -f "corpus/$name"/seed-*
	STANDBY_FUZZ_SEEDS=$PWD/corpus/$name "$programs/$name" "corpus/$name" \
		-max_total_time="$seconds" -timeout=10 -rss_limit_mb=512 -max_len=65536 \
		-dict=words.dict -use_value_profile=1 -print_final_stats=1 \
		-artifact_prefix="artifacts/$name/" >"$log" 2>&1 || status=$?
	local runs edges
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	edges=$(sed -n 's/^#.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
	printf '%-12s %11s runs  %6s edges  %s\n' "$name" "${runs:-?}" "${edges:-?}" \
		"$([ "$status" = 0 ] && echo ok || echo "FAILED: target/fuzz/logs/$name.log")"
	return "$status"
}
export -f one
export seconds programs logs

if ! printf '%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -c 'one {} || exit 1'; then
	echo "findings are in fuzz/artifacts" >&2
	exit 1
fi
