#!/bin/bash
# TIMEOUT: 240
# ALONE: it counts wake-ups and memory of 200 processes
# Many disks on one daemon: each idle tapdisk has less than 2 MiB of memory of
# its own and never wakes up; times are reported, not judged.  DISKS=200
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
n=${DISKS:-200}
[ -n "$SAN" ] && n=${DISKS:-20}
ms() { echo $((($(date +%s%N) - $1) / 1000000)); }

mkdir "$T/images"
for i in $(seq "$n"); do
	truncate -s 16M "$T/images/$i.img"
done
start_ctl
t=$(date +%s%N)
for i in $(seq "$n"); do
	tap-ctl create -a "aio:$T/images/$i.img" >/dev/null || fail "create $i"
done
note "$n disks created in $(ms "$t") ms"
t=$(date +%s%N)
tap-ctl list --json >"$T/list.json" || fail "list"
note "list: $(ms "$t") ms"
[ "$(jq length "$T/list.json")" = "$n" ] || fail "list shows $(jq length "$T/list.json")"
[ "$(jq '[.[].minor] | unique | length' "$T/list.json")" = "$n" ] || fail "minors"
mapfile -t pids < <(jq '.[].pid' "$T/list.json")
[ "$(printf '%s\n' "${pids[@]}" | sort -u | wc -l)" = "$n" ] || fail "pids"

t=$(date +%s%N)
tap-ctl stats >"$T/stats.json" || fail "stats"
note "stats of all: $(ms "$t") ms"
[ "$(jq '[.[].minor] | unique | length' "$T/stats.json")" = "$n" ] ||
	fail "stats tells of $(jq length "$T/stats.json") disks"

# Wake-ups of each process: an idle disk has none.  A second to come to rest.
switches()
{
	local p
	for p in "${pids[@]}"; do
		awk -v p="$p" '/^voluntary/ { print p, $2 }' "/proc/$p/status"
	done
}
for _ in 1 2 3 4 5; do	# a machine that is busy lets them come to rest later
	sleep 1.5
	switches >"$T/before"
	sleep 2
	switches >"$T/after"
	awkward=$(paste "$T/before" "$T/after" | awk '$4 > $2 { print $1 ": " $4 - $2 }')
	[ -n "$awkward" ] || break
done
[ -z "$awkward" ] || fail "idle tapdisks wake up (pid: times in 2 s): $awkward"

if [ -z "$SAN" ]; then
	for p in "${pids[@]}"; do
		awk -v p="$p" '/^Private_/ { k += $2 } END { print k, p }' \
			"/proc/$p/smaps_rollup" || fail "smaps of $p"
	done | sort -n >"$T/memory"
	note "private memory, KiB: least $(head -n 1 "$T/memory" | cut -d' ' -f1)," \
		"most $(tail -n 1 "$T/memory" | cut -d' ' -f1)"
	[ "$(tail -n 1 "$T/memory" | cut -d' ' -f1)" -lt 2048 ] ||
		fail "a tapdisk has more than 2 MiB: $(tail -n 1 "$T/memory")"
fi

t=$(date +%s%N)
stop_ctl
note "shutdown of all: $(ms "$t") ms"
