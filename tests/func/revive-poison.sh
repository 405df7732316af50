#!/bin/bash
# TIMEOUT: 240
# Requests that end each tapdisk that executes them are answered with an error, one
# after the other, and the disk lives on; but what goes on so is given up.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq

# A tapdisk that dies as it executes the first request of its predecessor's, as often
# as $T/deaths has lines.
mkdir "$T/bin"
cat >"$T/bin/tapdisk" <<END
#!/bin/sh
[ -s "$T/deaths" ] || exec "$BIN/tapdisk" "\$@"
sed -i 1d "$T/deaths"
exec "$BIN/tapdisk" "\$@" --kill-at ring-replay:1
END
chmod +x "$T/bin/tapdisk"
is() { [ "$(disk_state "$MINOR")" = "$1" ]; }
in_hand() { [ "$(tap-ctl stats -m "$MINOR" | jq '.clients[0].inflight')" = "$1" ]; }
# poison REQUESTS DEATHS: the first tapdisk dies with all in hand; sets CLIENT
poison()
{
	create "delay:ms=15000,op=write|aio:$T/a.img"
	for i in $(seq "$1"); do
		echo "aio_write -P $i $((i - 1))M 4k"
	done >"$T/cmd"
	echo aio_flush >>"$T/cmd"
	tap-io -m "$MINOR" <"$T/cmd" >"$T/out" 2>&1 &
	CLIENT=$!
	own $CLIENT
	wait_for 15 in_hand "$1" || fail "not sent: $(tap-ctl stats -m "$MINOR")"
	seq "$2" >"$T/deaths"
	kill -KILL "$PID"
}
bytes() { head -c $(($1 * 1048576 + 4096)) "$T/a.img" | tail -c 4096 | tr -d "\\$2" | wc -c; }

truncate -s 32M "$T/a.img"
start_ctl --tapdisk "$T/bin/tapdisk"
# Two, and a good one behind them.
poison 3 6
wait $CLIENT && fail "no error: $(cat "$T/out")"
is running || fail "given up: $(tap-ctl list)"
[ "$(disk_json "$MINOR" | jq .restarts)" = 7 ] || fail "$(disk_json "$MINOR")"
[ "$(grep -c 'ended 3 processes: it is answered with an error' "$T/ctl.log")" = 2 ] ||
	fail "errors: $(grep ended "$T/ctl.log")"
[ "$(grep -ci 'input/output error' "$T/out")" = 2 ] || fail "$(cat "$T/out")"
[ "$(bytes 2 3)" = 0 ] || fail "the good one is not written"
[ "$(bytes 0 1)$(bytes 1 2)" = 40964096 ] || fail "the others are"
destroy "$MINOR"
# A dozen is too much, unless each death comes so late that it is none of a row: then
# all are answered.
poison 12 100
over() { is dead || gone $CLIENT; }
wait_for 120 over || fail "neither given up nor answered: $(tap-ctl list)"
wait $CLIENT && fail "no error: $(cat "$T/out")"
deaths=$((100 - $(wc -l <"$T/deaths")))
if is dead; then
	grep -q "disk $MINOR: given up: 5 tapdisks in a row" "$T/ctl.log" || fail "not told"
	[ $deaths -lt 36 ] || fail "given up after $deaths more deaths"
	note "given up after $deaths more deaths"
else
	# The first, and three of each.
	restarts=$(disk_json "$MINOR" | jq .restarts)
	[ "$restarts" = 37 ] || fail "$restarts deaths, and $(tap-ctl list)"
	note "a slow machine: no death was one of a row"
fi
destroy "$MINOR"
stop_ctl
