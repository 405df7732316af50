#!/bin/bash
# What a tapdisk tells of itself while it works: its state when SIGUSR1 asks, its steps
# when a debug area is switched on and no more when it is off; and the program, its drivers.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq

tapdisk --features >"$T/features" || fail "--features: status $?"
for line in '^rings native x86_32 x86_64 indirect ' '^exports ring nbd$' \
		'^type aio,file,phy write flush fua discard zeroes .*extents resize  # ' \
		'^type ram write ' '^type null write ' '^filter error ' '^filter delay ' \
		'^filter log '; do
	grep -q "$line" "$T/features" || fail "--features lacks '$line': $(cat "$T/features")"
done

start_ctl
create "delay:us=1|ram:1M"
tap-io -m "$MINOR" -c 'write 0 4k' -c flush >/dev/null || fail "write"
kill -USR1 "$PID"
# Pieces of one JSON text.
dump() { sed -n 's/^[^ ]*tapdisk.*: state: //p' "$T/ctl.log" | tr -d '\n'; }
whole() { dump | jq -e '.ops.write | .count == 1 and .bytes == 4096' >/dev/null 2>&1; }
wait_for 5 whole || fail "no state, or another: $(dump)"
[ "$(dump | jq -c '[.state, .inflight, [.nodes[].type]]')" = \
	'["running",0,["delay","ram"]]' ] || fail "state: $(dump)"

steps() { grep -c 'running -> draining' "$T/ctl.log"; }
create "log:|ram:1M"
say() { tap-ctl debug -m "$MINOR" "$1" || fail "debug $1: status $?"; }
round()	# round STEPS REQUESTS: so many lines more after a pause and a request
{
	local s r
	s=$(steps) r=$(requests)
	tap-ctl pause -m "$MINOR" && tap-ctl unpause -m "$MINOR" || fail "pause"
	tap-io -m "$MINOR" -c 'read 0 4k' >/dev/null || fail "read"
	[ $(($(steps) - s)) = "$1" ] && [ $(($(requests) - r)) = "$2" ] ||
		fail "$(($(steps) - s)) steps and $(($(requests) - r)) requests, not $1 and $2"
}
requests() { grep -c 'read 4096 at 0: ok' "$T/ctl.log"; }
round 0 0
say disk
round 1 0
say node,disk=0
round 0 1
say all
round 1 1
say none
round 0 0
stop_ctl
