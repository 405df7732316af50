#!/bin/bash
# TIMEOUT: 180
# Clients that send garbage, half a message or wrong ones, that do not read, that
# vanish, and too many of them: the others are served meanwhile, nothing leaks.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
poke() { "$BUILD/func/ctlpoke" "$RUN/ctl.sock" "$@"; }
[ -x "$BUILD/func/ctlpoke" ] || fail "ctlpoke is not built"
seed
start_ctl
at_rest=$(fds_at_rest "$CTL_PID")
alive() { within5 tap-ctl check >/dev/null || fail "not served: $1"; }
no_leak() { [ "$(fds "$CTL_PID")" = "$at_rest" ]; }

timeout 200 "$BUILD/func/ctlpoke" "$RUN/ctl.sock" half & half=$!
own $half
for i in 1 2 3 4 5; do
	timeout 100 "$BUILD/func/ctlpoke" "$RUN/ctl.sock" garbage $((SEED + i)) ||
		fail "garbage (seed $SEED + $i)"
done
alive garbage
timeout 100 "$BUILD/func/ctlpoke" "$RUN/ctl.sock" wrong || fail "wrong messages"
timeout 200 "$BUILD/func/ctlpoke" "$RUN/ctl.sock" deaf & deaf=$!
own $deaf
alive "one who does not read"
timeout 100 "$BUILD/func/ctlpoke" "$RUN/ctl.sock" many 150 || fail "150 clients"
timeout 100 "$BUILD/func/ctlpoke" "$RUN/ctl.sock" pipeline 3000 || fail "3000 requests"
wait $deaf || fail "deaf"
truncate -s 1M "$T/a.img"
for _ in 1 2 3 4 5; do
	poke vanish "delay:ms=1|aio:$T/a.img" || fail "vanish"
done
# One of them has the image; the others found it locked.  All have ended.
settled() { [ "$(tap-ctl list --json | jq -c '[.[].state]')" = '["running"]' ]; }
wait_for 10 settled || fail "after those that vanished: $(tap-ctl list --json)"
destroy "$(tap-ctl list --json | jq '.[0].minor')"
wait $half || fail "half a message is waited for, for ever"
wait_for 5 no_leak || fail "$(fds "$CTL_PID") descriptors, at first $at_rest"
# A crowd at once, more than the socket queues: all get in, one after the other.
kill -STOP "$CTL_PID"
crowd=
for _ in $(seq 180); do tap-ctl check >/dev/null & crowd="$crowd $!"; done
sleep 2
kill -CONT "$CTL_PID"
for p in $crowd; do wait "$p" || fail "one of a crowd: status $?"; done
stop_ctl
