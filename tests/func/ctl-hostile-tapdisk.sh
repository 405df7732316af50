#!/bin/bash
# TIMEOUT: 120
# A tapdisk that hangs, dies, lies, floods or asks for what is not its disk's:
# whoever asked gets one clear line in time, and nothing is left behind.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
mkdir "$T/modes" "$T/fake" && truncate -s 1M "$T/a.img"
# By this name, so that what is left of them is found.
cp "$BUILD/func/faketap" "$T/fake/tapdisk" || fail "faketap is not built"
start_ctl --no-restart --tapdisk "$T/fake/tapdisk" --tapdisk-arg --modes --tapdisk-arg "$T/modes"
names() { (cd "$RUN" && find . -mindepth 1 | sort | tr '\n' ' '); }
at_rest=$(fds_at_rest "$CTL_PID")

# --- create: every way in which it can fail.  Those that hang do so together, as
# disks 1 to 4, while one after the other fails as disk 0, long before its time is up.
one()	# one MINOR STATUS MODE TEXT...
{
	local n=$1 want=$2 mode=$3 flags='' patience=5 rc out
	shift 3
	echo "$mode" >"$T/modes/$n"
	case $mode in askrw*) flags=-R ;; esac
	[ "$n" != 0 ] || patience=60
	# shellcheck disable=SC2086
	out=$(timeout 100 tap-ctl create -t $patience $flags -a "aio:$T/a.img" 2>&1)
	rc=$?
	note "$mode: $out"
	[ "$rc" != 0 ] || fail "$mode: succeeded"
	[ "$want" = any ] || [ "$rc" = "$want" ] || fail "$mode: status $rc"
	case $out in
	"tap-ctl: disk $n: cannot create "*"$*"*) ;;
	*) fail "$mode: no '$*' in: $out" ;;
	esac
}
hangs=
hang()	# the same in the background, once its minor is taken
{
	(trap - EXIT; one "$@") &
	hangs="$hangs $!"
	wait_for 5 [ -e "$RUN/tapdisk-$1" ] || fail "create $1"
}
# (The lowest minor is the next one's, whether those hang yet or not.)
tap-ctl allocate >/dev/null || fail "allocate"
hang 1 110 deaf not come up in time
hang 2 110 mute:16 not come up in time
hang 3 110 mute:4 not answered in time
hang 4 110 mute:1 not answered in time
within5 tap-ctl list >/dev/null || fail "list while others hang"
tap-ctl free -m 0 || fail "free"
while read -r status mode text; do
	one 0 "$status" "$mode" "$text"
done <<END
6 die:16 killed by signal 11
6 die:4 killed by signal 11
6 die:1 killed by signal 11
6 exit exit status 7
5 fail:4 it broke
5 fail:1 it broke
71 pid lies
71 minor lies
71 state lies
13 ask:/etc/shadow not a file of this disk
13 ask:$T/a.img/ not a file of this disk
30 askrw:$T/a.img read-only
5 flood floods
END
for p in $hangs; do
	wait "$p" || exit 1
done
nothing_left()
{
	[ "$(names)" = "./ctl.sock ./lock " ] && [ -z "$(tapdisk_pids)" ] &&
		[ "$(fds "$CTL_PID")" = "$at_rest" ]
}
! grep 'signal 9' "$T/ctl.log" || fail "an expected end is told"
wait_for 5 nothing_left || fail "left: $(names); $(tapdisk_pids);" \
	"$(fds "$CTL_PID") descriptors, at first $at_rest"
rm "$T"/modes/*
end_by_force()
{
	case $ERR in *"kill $PID "*) ;; *) fail "no advice in: $ERR" ;; esac
	kill -KILL "$PID"
	wait_for 5 [ ! -e "$RUN/tapctrlwrite0" ] || fail "death unnoticed"
	within5 tap-ctl destroy -m 0 || fail "destroy of the dead"
	wait_for 5 nothing_left || fail "after destroy: $(names)"
}

# --- a disk that does not answer a pause says so, and killing it frees it.
echo mute:18 >"$T/modes/0"
create "aio:$T/a.img"
refuse 110 tap-ctl pause -m 0 -t 1
[ "$(disk_json 0 | jq -r .state)" = pausing ] || fail "$(disk_json 0)"
refuse 16 tap-ctl close -m 0
refuse 16 tap-ctl destroy -m 0
end_by_force

# --- with -f, destroy gives it up by itself; so does one that cannot pause.
echo mute:7 >"$T/modes/0"
create "aio:$T/a.img"
refuse 110 tap-ctl close -m 0 -t 1
refuse 16 tap-ctl destroy -m 0
within5 tap-ctl destroy -m 0 -f || fail "destroy -f"
wait_for 5 nothing_left || fail "after destroy -f: $(names)"
create "aio:$T/a.img"
within5 tap-ctl destroy -m 0 --force -t 1 || fail "destroy --force"
wait_for 5 nothing_left || fail "after destroy --force: $(names)"

# --- a close that fails: the disk is what its tapdisk then says it is.
echo unsure >"$T/modes/0"
create "aio:$T/a.img"
refuse 5 within5 tap-ctl close -m 0
[[ $ERR == *"cannot close: it broke" ]] || fail "$ERR"
[ "$(disk_state 0)" = running ] || fail "$(disk_json 0)"
refuse 5 within5 tap-ctl destroy -m 0
[ "$(disk_state 0)" = running ] || fail "$(disk_json 0)"
rm "$T/modes/0"
kill -KILL "$PID"
wait_for 5 [ ! -e "$RUN/tapctrlwrite0" ] || fail "death unnoticed"
destroy 0

# --- introduces itself for ever: no more listened to than other floods.
echo hellos >"$T/modes/0"
tap-ctl create -a "aio:$T/a.img" >/dev/null 2>&1
wait_for 5 grep -q 'not listened to any more: it floods' "$T/ctl.log" ||
	fail "a flood of HELLOs is unnoticed"
tap-ctl destroy -m 0 -f 2>/dev/null
wait_for 5 nothing_left || fail "after the flood: $(names)"
rm "$T/modes/0"

# --- answers without end are cut off; the disk goes on.
echo endless >"$T/modes/0"
create "aio:$T/a.img"
refuse any within5 tap-ctl stats
[[ $ERR == "tap-ctl: disk 0: cannot read statistics: "* ]] || fail "$ERR"
[ "$(jq length "$T/refuse.out")" = 0 ] || fail "stats of all: $(cat "$T/refuse.out")"
within5 tap-ctl pause -m 0 || fail "pause after endless stats"
destroy 0

# --- answers that come twice harm nobody.
echo twice >"$T/modes/0"
create "aio:$T/a.img"
for _ in 1 2 3; do
	within5 tap-ctl pause -m 0 || fail "pause"
	within5 tap-ctl unpause -m 0 || fail "unpause"
	within5 tap-ctl stats -m 0 >/dev/null || fail "stats"
done
destroy 0

# --- answers that claim to go on are taken for whole: the daemon does not wait,
# nor ask again while it waits.
echo more >"$T/modes/0"
create "aio:$T/a.img"
for _ in 1 2 3; do
	within5 tap-ctl pause -m 0 || fail "pause"
	within5 tap-ctl unpause -m 0 || fail "unpause"
done
within5 tap-ctl list >/dev/null || fail "the daemon hangs"
within5 tap-ctl destroy -m 0 || fail "destroy"

# --- garbage: not listened to, still listed, ended by force.
echo garbage >"$T/modes/0"
if tap-ctl create -a "aio:$T/a.img" >/dev/null 2>&1; then	# it may be noticed before
	PID=$(pid_of 0)
	wait_for 5 grep -q 'not listened to any more: it sends garbage' "$T/ctl.log" ||
		fail "garbage unnoticed"
	refuse 5 within5 tap-ctl pause -m 0
	refuse 16 tap-ctl destroy -m 0
	end_by_force
fi
wait_for 5 nothing_left || fail "after garbage: $(names)"

# --- those that would not leave are helped.
echo mute:28 >"$T/modes/0"
echo late >"$T/modes/1"
create "aio:$T/a.img"
create "aio:$T/a.img"
timeout 60 tap-ctl destroy -m 0 & a=$!
timeout 60 tap-ctl destroy -m 1 & b=$!
wait $a && wait $b || fail "destroy of those that do not leave"
wait_for 5 nothing_left || fail "after destroy: $(names)"
[ "$(ls -ld "$T/ctl.log" | awk '{ print $5 }')" -lt 100000 ] || fail "the log is flooded"
stop_ctl
