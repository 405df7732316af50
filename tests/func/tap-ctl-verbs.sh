#!/bin/bash
# Every verb of tap-ctl, on its own and in tapdisk3's order, with what it
# prints, as text and as JSON; the two formats of list byte for byte.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq script
truncate -s 4M "$T/a.img" "$T/b.img"

# says WANT COMMAND...: succeeds and prints exactly that.
says()
{
	local want=$1 got
	shift
	got=$("$@" 2>"$T/err") || fail "$*: status $?: $(cat "$T/err")"
	[ "$got" = "$want" ] || fail "$*: printed '$got', not '$want'"
	[ ! -s "$T/err" ] || fail "$*: $(cat "$T/err")"
}
# json FILTER WANT COMMAND...: succeeds, prints one JSON value, and jq's answer fits.
json()
{
	local filter=$1 want=$2 got
	shift 2
	got=$("$@" --json) || fail "$* --json: status $?"
	jq -e . <<<"$got" >/dev/null || fail "$* --json: not JSON: $got"
	[ "$(jq -c "$filter" <<<"$got")" = "$want" ] ||
		fail "$* --json: $filter is $(jq -c "$filter" <<<"$got"), not $want"
}

# Without a daemon: one line that says how to start it, one code.
refuse 111 tap-ctl list
[[ $ERR == *"start it with \`blktapctrl --rundir $RUN'"* ]] || fail "$ERR"
refuse 111 tap-ctl check
says "$(tap-ctl --version)" tap-ctl version
json .blktapctrl null tap-ctl version
start_ctl
tap-ctl check >"$T/out" || fail "check"
grep -q "$RUN" "$T/out" || fail "check: $(cat "$T/out")"
json .rundir "\"$RUN\"" tap-ctl check
[ "$(tap-ctl version | wc -l)" = 2 ] || fail "version: $(tap-ctl version)"
says "" tap-ctl list
json . '[]' tap-ctl list

# The long way, as tapdisk3's callers go it.
says "$RUN/tapdisk-0" tap-ctl allocate
says "minor=0" tap-ctl list
json '.[0] | [.minor, .pid, .state]' '[0,null,"allocated"]' tap-ctl list
json '[.minor, .marker]' "[1,\"$RUN/tapdisk-1\"]" tap-ctl allocate
says "" tap-ctl free -m 1
pid=$(tap-ctl spawn) || fail "spawn"
[[ $pid =~ ^[0-9]+$ ]] && [ -d "/proc/$pid" ] || fail "spawn printed '$pid'"
json '[.[] | select(.pid != null)] | .[0] | [.pid, .minor, .state]' \
	"[$pid,null,\"spawned\"]" tap-ctl list
says "pid=$pid" tap-ctl list -p "$pid"
says "" tap-ctl attach -p "$pid" -m 0
says "pid=$pid minor=0 state=0x2" tap-ctl list
refuse any tap-ctl attach -p "$pid" -m 0
says "" tap-ctl open -p "$pid" -m 0 -a "aio:$T/a.img"
says "pid=$pid minor=0 state=0 args=aio:$T/a.img" tap-ctl list
refuse 22 tap-ctl detach -p "$pid" -m 0
says "" tap-ctl close -p "$pid" -m 0
says "pid=$pid minor=0 state=0x2" tap-ctl list
json . '{"minor":0}' tap-ctl open -m 0 -a "aio:$T/a.img" -R
json '.[0].read_only' true tap-ctl list
json . '{"minor":0}' tap-ctl close -m 0 -f
says "" tap-ctl detach -p "$pid" -m 0
wait_for 5 gone "$pid" || fail "tapdisk outlives detach"
says "minor=0" tap-ctl list
says "" tap-ctl free -m 0
says "" tap-ctl list

# The short way.
says "$RUN/tapdisk-0" tap-ctl create -a "aio:$T/a.img" -d ignored
pid=$(tap-ctl list --json | jq '.[0].pid')
keys='["args","backing","direct","last_death","marker","minor","nbd","path","physical_sector_size","pid",'
keys+='"read_only","restarts","ring","sector_size","size","state","type","unpause_failed"]'
json 'keys' "$keys" tap-ctl create -a "aio:$T/b.img" -R -D
json '[.minor, .state, .type, .path, .read_only, .direct, .size]' \
	"[1,\"running\",\"aio\",\"$T/b.img\",true,false,4194304]" tap-ctl info -m 1
json '[.nbd, .ring]' "[\"$RUN/nbd0.sock\",\"$RUN/ring0.sock\"]" tap-ctl info -m 0
for s in nbd0 ring0; do [ -S "$RUN/$s.sock" ] || fail "no socket $s"; done

# Filters are ANDed; what an entry lacks does not fit.
line="pid=$pid minor=0 state=0 args=aio:$T/a.img"
says "$line" tap-ctl list -t aio -f "$T/a.img"
says "$line" tap-ctl list -m 0
says "$line" tap-ctl list -p "$pid"
says "" tap-ctl list -p "$pid" -m 1
says "" tap-ctl list -t ram -f "$T/a.img"
says "" tap-ctl list -f "$T/a.im"
minor=$(tap-ctl allocate)
says "$line" tap-ctl list -f "$T/a.img" -t aio
says "" tap-ctl free -m "$minor"

# On a terminal, tapdisk3's columns, without a heading.
script -qec "tap-ctl list -m 0" /dev/null </dev/null | tr -d '\r' >"$T/tty"
printf '%8s %4s %4s %10s %s\n' "$pid" 0 0 aio "$T/a.img" >"$T/want"
cmp "$T/tty" "$T/want" || fail "on a terminal: $(cat "$T/tty")"
script -qec "tap-ctl spawn" /dev/null </dev/null | tr -d '\r' >"$T/tty"
grep -qE '^tapdisk spawned with pid [0-9]+$' "$T/tty" || fail "spawn: $(cat "$T/tty")"
spawned=$(grep -oE '[0-9]+' "$T/tty")
says "$RUN/tapdisk-2" tap-ctl allocate
says "" tap-ctl attach -p "$spawned" -m 2
says "" tap-ctl detach -p "$spawned" -m "$RUN/tapdisk-2"
says "" tap-ctl free -m "$RUN/tapdisk-2"	# what was printed names it too
wait_for 5 gone "$spawned" || fail "tapdisk outlives detach"

# pause, unpause, with another image as well.
says "" tap-ctl pause -m 0 -p "$pid" -t 5
json '.state' '"paused"' tap-ctl info -m 0
json . '{"minor":0}' tap-ctl unpause -m 0
refuse 22 tap-ctl pause -m 0 -t x
says "" tap-ctl pause -m 0
refuse 2 tap-ctl unpause -m 0 -a "aio:$T/none.img"
says "pid=$pid minor=0 state=0x220 args=aio:$T/a.img" tap-ctl list -m 0
truncate -s 4M "$T/c.img"
says "" tap-ctl unpause -m 0 -a "aio:$T/c.img"
json '[.path, .unpause_failed]' "[\"$T/c.img\",false]" tap-ctl info -m 0

# resize, by us and by the file's owner; never smaller.
says "8388608 (8 MiB)" tap-ctl resize -m 0 8M
[ "$(stat -c %s "$T/c.img")" = 8388608 ] || fail "the file was not grown"
truncate -s 12M "$T/c.img"
json .size 12582912 tap-ctl resize -m 0
refuse 34 tap-ctl resize -m 0 1M
refuse 22 tap-ctl resize -m 0 12x
json .size 12582912 tap-ctl info -m 0

# stats, info, debug, major.
tap-ctl stats -m 0 | jq -e 'type == "object"' >/dev/null || fail "stats"
json type '"object"' tap-ctl stats -m 0
json type '"array"' tap-ctl stats
[ "$(tap-ctl stats | jq length)" = "$(tap-ctl list --json |
	jq 'map(select(.pid and .minor >= 0 and .state != "dead")) | length')" ] ||
	fail "stats of all"
for k in sectors=24576 sector_size=512 info=0 size=12582912 "nbd=$RUN/nbd0.sock"; do
	tap-ctl info -m 0 | grep -qx "$k" || fail "info lacks $k: $(tap-ctl info -m 0)"
done
tap-ctl info -m 1 | grep -qx info=0x4 || fail "info of a read-only disk"
says "" tap-ctl debug -m 0 ring,disk
says "" tap-ctl debug -m 0 none
json . '{}' tap-ctl debug ctl=0
refuse 22 tap-ctl debug -m 0 bogus
refuse 19 tap-ctl major
refuse 19 tap-ctl major -c

# A drain that takes longer than -t: said so, in time; it ends nevertheless.
create "delay:ms=12000,op=write|ram:1M"
slow=$MINOR
tap-io -m "$slow" -c 'write 0 4k' >"$T/slow" 2>&1 &
own $!
wait_for 5 in_flight "$slow" || fail "it does not write: $(tap-ctl stats -m "$slow")"
refuse 110 tap-ctl pause -m "$slow" -t 1	# later it would be done
paused() { [ "$(disk_state "$slow")" = paused ]; }
wait_for 5 paused || fail "never paused: $(disk_json "$slow")"
says "" tap-ctl unpause -m "$slow"
wait $! || fail "the write that was drained: $(cat "$T/slow")"
says "" tap-ctl destroy -m "$slow"

# The wrong pid is no pid: nothing is done.
refuse any tap-ctl destroy -m 0 -p 1
tap-ctl destroy --debug -p "$pid" -m 0 2>"$T/err" || fail "destroy: $(cat "$T/err")"
grep -q "asks type" "$T/err" || fail "--debug shows nothing"
json . '{"minor":1}' tap-ctl destroy -m 1
stop_ctl
