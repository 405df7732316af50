#!/bin/bash
# TIMEOUT: 600
# What takes the place of a tapdisk that died dies too, lies, fails or says nothing:
# it is given up or replaced in its turn, other disks do not notice, and nothing is
# left of it; also if the daemon dies meanwhile.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
mkdir "$T/modes" "$T/fake" && truncate -s 1M "$T/a.img" "$T/b.img" "$T/c.img"
cp "$BUILD/func/faketap" "$T/fake/tapdisk" || fail "faketap is not built"
start() { start_ctl --tapdisk "$T/fake/tapdisk" --tapdisk-arg --modes --tapdisk-arg "$T/modes"; }
is() { [ "$(disk_state "$1")" = "$2" ]; }
names() { (cd "$RUN" && find . -mindepth 1 | sort | tr '\n' ' '); }

# There is another process in PID's place, and it has gone as far as it will.
half() { grep -q "faketap $(pid_of "$MINOR"): silent" "$T/ctl.log"; }
half_way()
{
	wait_for 5 half || fail "$(tap-ctl list)"
	[ "$(pid_of "$MINOR")" != "$PID" ] || fail "$(tap-ctl list)"
	is "$MINOR" opening || fail "$(tap-ctl list)"
}

start
create "aio:$T/b.img"
bystander=$PID
with_one=$(fds_at_rest "$CTL_PID") entries=$(names)
nothing_left()
{
	[ "$(names)" = "$entries" ] && [ "$(tapdisk_pids)" = "$bystander" ] &&
		[ "$(fds "$CTL_PID")" = "$with_one" ]
}

while read -r mode reason; do
	: >"$T/modes/1"
	create "aio:$T/a.img"
	echo "$mode" >"$T/modes/1"
	before=$(wc -l <"$T/ctl.log")
	kill -KILL "$PID"
	wait_for 15 is "$MINOR" dead || fail "$mode: $(tap-ctl list)"
	tail -n +"$((before + 1))" "$T/ctl.log" >"$T/said"
	[ "$(grep -c "disk $MINOR: given up: 5 tapdisks in a row.*$reason" "$T/said")" = 1 ] ||
		fail "$mode: $(cat "$T/said")"
	destroy "$MINOR"
	wait_for 5 nothing_left || fail "$mode: left: $(names), before: $entries;" \
		"$(tapdisk_pids); $(fds "$CTL_PID") descriptors, $with_one before"
	is 0 running && [ "$(pid_of 0)" = "$bystander" ] || fail "$mode: the other: $(tap-ctl list)"
done <<END
exit has ended
die:16 signal 11
die:38 signal 11
die:4 signal 11
die:20 signal 11
fail:38 cannot take over: it broke
fail:4 cannot take over: it broke
pid it lies about itself
state it lies about itself
flood cannot take over: it floods its control pipe
END

# --- what the host refuses, to its start or to its image, is no death: it is tried
# again for longer than a row of deaths would last, told of once, and forgotten.
in_trouble() { tail -n +"$((before + 1))" "$T/ctl.log" | grep -q "disk $MINOR: .*$reason.*tried again"; }
while read -r mode reason; do
	# TSan makes a fork of vfork, and then the daemon does not hear of the exec.
	[ "$mode:$SAN" != none:thread ] || { note "left out under TSan: $mode"; continue; }
	: >"$T/modes/1"
	create "aio:$T/a.img"
	echo "$mode" >"$T/modes/1"
	[ "$mode" != none ] || mv "$T/fake/tapdisk" "$T/fake/away"
	before=$(wc -l <"$T/ctl.log")
	kill -KILL "$PID"
	wait_for 5 in_trouble || fail "$mode: $(tap-ctl list)"
	sleep 4
	is "$MINOR" opening || fail "$mode: $(tap-ctl list)"
	[ -e "$RUN/journal1" ] || fail "$mode: its journal is gone: $(names)"
	[ "$(disk_json "$MINOR" | jq .restarts)" = 1 ] || fail "$mode: $(disk_json "$MINOR")"
	tail -n +"$((before + 1))" "$T/ctl.log" >"$T/said"
	[ "$(grep -c "disk $MINOR: .*$reason.*tried again" "$T/said")" = 1 ] &&
		[ "$(grep -c "$reason" "$T/said")" -le 2 ] || fail "$mode: $(cat "$T/said")"
	: >"$T/modes/1"
	[ "$mode" != none ] || mv "$T/fake/away" "$T/fake/tapdisk"
	wait_for 5 taken_over "$MINOR" "$PID" || fail "$mode: $(tap-ctl list)"
	destroy "$MINOR"
	wait_for 5 nothing_left || fail "$mode: left: $(names); $(fds "$CTL_PID") descriptors"
done <<END
fail:20 cannot open its image: it broke
askrw:$T/b.img cannot open its image
none was not started: .*No such file
END
# It can be given up as well.
: >"$T/modes/1"
create "aio:$T/a.img"
echo fail:20 >"$T/modes/1"
before=$(wc -l <"$T/ctl.log") reason="it broke"
kill -KILL "$PID"
wait_for 5 in_trouble || fail "$(tap-ctl list)"
within5 tap-ctl destroy -m "$MINOR" -f -t 1 || fail "destroy -f"
wait_for 5 nothing_left || fail "left: $(names)"

# --- one that says nothing is replaced in its turn; what is asked meanwhile waits.
: >"$T/modes/1"
create "aio:$T/a.img"
echo mute:38 >"$T/modes/1"
kill -KILL "$PID"
half_way
refuse 110 within5 tap-ctl pause -m "$MINOR" -t 1
[[ $ERR == *"none has taken over in time" ]] || fail "$ERR"
rm "$T/modes/1"		# (no sooner: a slow machine may be at the next one already)
timeout 100 tap-ctl pause -m "$MINOR" -t 90 || fail "a pause that waited"
is "$MINOR" paused || fail "$(tap-ctl list)"
destroy "$MINOR"
wait_for 5 nothing_left || fail "left: $(names)"

# --- or given up with -f.
create "aio:$T/a.img"
echo mute:38 >"$T/modes/1"
kill -KILL "$PID"
half_way
within5 tap-ctl destroy -m "$MINOR" -f -t 1 || fail "destroy -f"
wait_for 5 nothing_left || fail "left: $(names)"

# --- the daemon dies in the middle of it: the next one begins again.
rm "$T/modes/1"
create "aio:$T/a.img"
old=$PID
echo mute:20 >"$T/modes/1"
kill -KILL "$PID"
half_way
half=$(pid_of "$MINOR")
kill_ctl KILL
rm "$T/modes/1"
start
wait_for 5 taken_over "$MINOR" "$half" || fail "$(tap-ctl list)"
[ "$(tapdisk_pids | wc -l)" = 2 ] || fail "processes: $(tapdisk_pids)"
[ "$(disk_json "$MINOR" | jq .restarts)" -ge 2 ] || fail "it has forgotten: $(disk_json "$MINOR")"
tap-ctl destroy -m "$MINOR" -p "$old" || fail "destroy -p of the first pid"
stop_ctl
