#!/bin/sh
# Writes the example's serving configuration: a redirect map for nginx of COUNT
# rules (10,000 unless given). The same seed gives the same bytes.
#
#   generate.sh OUTDIR [COUNT] [SEED]
set -eu
out=${1:?usage: generate.sh OUTDIR [COUNT] [SEED]}
count=${2:-10000}
seed=${3:-20260101}
mkdir -p "$out"
# A linear congruential generator walks all of 2^24 before it repeats (its
# multiplier is 1 mod 4 and its increment odd), so no two rules share a code.
LC_ALL=C awk -v count="$count" -v seed="$seed" 'BEGIN {
    modulus = 16777216
    state = seed % modulus
    for (rule = 1; rule <= count; rule++) {
        state = (state * 1140677 + 12820163) % modulus
        printf "/go/%06x https://example.org/archive/%04d/%06x;\n", state, rule, (state * 7 + rule) % modulus
    }
}' >"$out/redirects.map"
# One rule whose answer the probes and the demo know beforehand.
echo '/go/standby https://example.org/it-works;' >>"$out/redirects.map"
chmod 0644 "$out/redirects.map"
