#!/bin/sh
# One machine, or several by ssh, with GNU parallel; with xargs where that is missing.
#
#   examples/parallel.sh SHARDS AT_ONCE lrp explain photos/ maps/
#   examples/parallel.sh 64 16 lrp explain --model caffenet photos/ maps/
#
# Runs the command once for each of so many shards, so many of them at once. On one machine, lrp explain --engine
# processes does the same with less: its nets are loaded once each.
set -eu
[ $# -ge 3 ] || { echo "usage: $0 SHARDS AT_ONCE COMMAND..." >&2; exit 2; }
shards=$1 at_once=$2
shift 2
: "${OMP_NUM_THREADS:=1}"
export OMP_NUM_THREADS
if parallel --version 2> /dev/null | grep -q '^GNU parallel'; then
    seq "$shards" | parallel --will-cite --jobs "$at_once" --quote "$@" --shard "{}/$shards"
else
    seq "$shards" | xargs -P "$at_once" -I {} "$@" --shard "{}/$shards"
fi
