#!/bin/bash
# TIMEOUT: 600
# A new daemon takes over what a dead one has left: living disks, half messages,
# half-made and half-renamed disks, stale names, and foreign ones.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
mkdir "$T/modes" "$T/fake" && truncate -s 1M "$T/a.img" "$T/b.img"
cp "$BUILD/func/faketap" "$T/fake/tapdisk" || fail "faketap is not built"
names() { (cd "$RUN" && find . -mindepth 1 | sort | tr '\n' ' '); }
kill9()
{
	kill -KILL "$CTL_PID"
	wait "$CTL_PID" 2>/dev/null
	CTL_PID=
}
answers() { tap-ctl list >/dev/null 2>&1; }
shown() { tap-ctl list --json | jq -c '[.[] | [.pid, .minor, .state, .path]]'; }

# --- what lives is as before, whoever it was and whatever it did.
start_ctl
create "aio:$T/a.img"
create "aio:$T/b.img" -R
tap-ctl pause -m 1 || fail "pause"
spawned=$(tap-ctl spawn)
tap-ctl allocate >/dev/null
tap-ctl attach -p "$(tap-ctl spawn)" -m 2 || fail "attach"
tap-ctl allocate >/dev/null
before=$(shown) entries=$(names)
is_as_before() { [ "$(shown)" = "$before" ]; }
[ "$(echo "$before" | jq length)" = 5 ] || fail "list: $before"
for sig in KILL TERM; do
	kill -$sig "$CTL_PID"
	wait "$CTL_PID" 2>/dev/null
	# Half a message in each pipe, as a death in the middle leaves it; the
	# tapdisks see no end of file between it and the new daemon's words.
	pids=$(tapdisk_pids)
	for p in $pids; do kill -STOP "$p"; done
	for p in "$RUN"/tapctrlwrite*; do
		printf 'BLTK\1\0\22\0\0\0\0\0\0\0\0\0\350\3\0\0xxxxxxx' |
			timeout 40 tee "$p" >/dev/null || fail "nobody reads $p"
	done
	blktapctrl --foreground ${SAN:+--tapdisk-arg --no-sandbox} >>"$T/ctl.log" 2>&1 &
	CTL_PID=$!
	sleep 0.5
	for p in $pids; do kill -CONT "$p"; done
	wait_for 5 answers || fail "$sig: not ready"
	# (It is ready without those that are too slow to answer.)
	wait_for 5 is_as_before || fail "$sig: $(shown), before: $before"
	[ "$(names)" = "$entries" ] || fail "$sig: $(names), before: $entries"
done
tap-ctl unpause -m 1 || fail "unpause after adoption"
[ "$(disk_json 1 | jq .read_only)" = true ] || fail "read-only is forgotten"
tap-ctl destroy -m 1 || fail "destroy"
# As root, the lock of an adopted disk outlives its tapdisk: a duplicate of its
# file is taken from it, which its successor gets.
pid=$(disk_json 0 | jq .pid)
has_file() { find "/proc/$CTL_PID/fd" -lname "$T/a.img" | grep -q .; }
[ "$(id -u)" != 0 ] || wait_for 5 has_file || fail "the daemon has not taken its file"
kill -KILL "$pid"
[ "$(id -u)" != 0 ] || refuse 16 tap-ctl create -a "aio:$T/a.img"
wait_for 5 taken_over 0 "$pid" || fail "the death of an adopted disk is unnoticed: $(shown)"
[ "$(id -u)" != 0 ] || refuse 16 tap-ctl create -a "aio:$T/a.img"
tap-io -m 0 -c 'read 0 4k' >/dev/null || fail "I/O with its successor"
tap-ctl destroy -m 0 -p "$pid" || fail "destroy"
create "aio:$T/a.img"

# --- one daemon alone: the second leaves, and touches nothing.
entries=$(names)
timeout 40 blktapctrl --foreground 2>"$T/second"
[ $? = 3 ] || fail "status of a second daemon: $(cat "$T/second")"
[ "$(wc -l <"$T/second")" = 1 ] || fail "not one line: $(cat "$T/second")"
[ "$(names)" = "$entries" ] || fail "the second daemon changed $(names)"
within5 tap-ctl list >/dev/null || fail "the first daemon has suffered"

# --- one killed as it started a tapdisk: the child has the lock for a moment yet, on a
# slow machine for long.
kill9
flock "$RUN/lock" sleep 1.5 &
own $!
wait_for 5 sh -c "! flock -n '$RUN/lock' true"
start_ctl

# --- a death between two names of one pipe.
kill9
for f in tapfd%s.sock tapctrlread%s tapctrlwrite%s; do
	# shellcheck disable=SC2059
	ln "$RUN/$(printf "$f" 1000000)" "$RUN/$(printf "$f" 77)" || fail "ln"
done
# --- leftovers of the dead, and foreign things with such names.
mkfifo "$RUN/tapctrlwrite9" "$RUN/tapctrlread9" "$RUN/tapctrlread11"
: >"$RUN/tapdisk-9"
echo precious >"$RUN/tapctrlwrite5"
mkdir "$RUN/tapctrlwrite6"
ln -s "$T/a.img" "$RUN/tapctrlwrite7"
mkfifo "$T/trap"
ln -s "$T/trap" "$RUN/tapctrlwrite8"
echo precious >"$RUN/ring10.sock"
: >"$RUN/tapctrlwrite007"
: >"$RUN/tapctrlwrite99999999999999999999"
: >"$RUN/tapdisk-x"
start_ctl
for f in tapctrlwrite9 tapctrlread9 tapctrlread11 tapctrlwrite77 tapctrlread77 \
	tapfd77.sock; do
	[ ! -e "$RUN/$f" ] || fail "a leftover stays: $f"
done
[ "$(cat "$RUN/tapctrlwrite5" "$RUN/ring10.sock")" = "precious
precious" ] || fail "a foreign file was touched"
[ -d "$RUN/tapctrlwrite6" ] && [ -L "$RUN/tapctrlwrite7" ] &&
	[ -L "$RUN/tapctrlwrite8" ] || fail "foreign: $(names)"
[ "$(tap-ctl list -p "$spawned" | wc -l)" = 1 ] || fail "the spawned one is lost"
disk_json 9 >/dev/null || fail "the marker of minor 9 is lost"
tap-ctl destroy -m 9 || fail "destroy of a marker"
# Minors whose names are foreign are not given out.
for want in 1 4 9; do
	create ram:1M
	[ "$MINOR" = $want ] || fail "minor $MINOR, not $want"
done
rm -r "$RUN"/tapctrlwrite[5-8] "$RUN/ring10.sock" "$RUN/tapctrlwrite007" \
	"$RUN/tapctrlwrite99999999999999999999" "$RUN/tapdisk-x"
stop_ctl

# --- half of a create: nobody waits for it, so it goes; also when the first that is found
# is a dead one, and then the daemon is ready once, and not before the others have told.
ready() { grep -c 'blktapctrl: serving ' "$T/ctl.log"; }
for mode in mute:1 mute:4; do
	echo $mode >"$T/modes/0"
	rm -f "$T/modes/1"
	start_ctl --tapdisk "$T/fake/tapdisk" --tapdisk-arg --modes \
		--tapdisk-arg "$T/modes"
	tap-ctl create -a "aio:$T/a.img" >/dev/null 2>&1 &
	own $!
	wait_for 5 [ -S "$RUN/ring0.sock" ] || fail "$mode: create"
	create "aio:$T/b.img"
	kill9
	mkfifo "$RUN/tapctrlwrite1000007" "$RUN/tapctrlread1000007"	# found first
	before=$(ready)
	start_ctl
	half_gone() { [ "$(tapdisk_pids)" = "$PID" ] && [ ! -e "$RUN/tapdisk-0" ]; }
	wait_for 5 half_gone || fail "$mode: half a create stays: $(names)"
	[ "$(disk_state 1)" = running ] || fail "the other: $(shown)"
	[ $(($(ready) - before)) = 1 ] || fail "$mode: ready $(($(ready) - before)) times"
	stop_ctl
done

# --- one that does not answer is kept, and delays nobody; it may answer later.
start_ctl
create "aio:$T/a.img"
stopped=$PID
create "aio:$T/b.img"
kill9
kill -STOP "$stopped"
blktapctrl --foreground ${SAN:+--tapdisk-arg --no-sandbox} >>"$T/ctl.log" 2>&1 &
CTL_PID=$!
wait_for 9 answers || fail "not ready for one that is stopped"
[ "$(disk_state 1)" = running ] || fail "the other: $(shown)"
disk_json 0 >/dev/null || fail "it is lost"
kill -CONT "$stopped"
is_back() { [ "$(disk_json 0 | jq -r .path)" = "$T/a.img" ]; }
wait_for 5 is_back || fail "it is not adopted later: $(shown)"
stop_ctl

# --- the same in the middle of an attach: the disk that it becomes can be reached.
start_ctl
spawned=$(tap-ctl spawn)
tap-ctl allocate >/dev/null
kill -STOP "$spawned"
tap-ctl attach -p "$spawned" -m 0 2>/dev/null &
own $!
is_opening() { [ "$(disk_state 0)" = opening ]; }
wait_for 5 is_opening || fail "attach"
kill9
start_ctl
disk_json 0 >/dev/null || fail "silent: $(shown)"
refuse 16 tap-ctl free -m 0
kill -CONT "$spawned"
wait_for 5 [ ! -e "$RUN/tapctrlwrite1000000" ] || fail "not renamed: $(names)"
is_closed() { [ "$(disk_state 0)" = closed ]; }
wait_for 5 is_closed || fail "half an attach: $(shown)"
tap-ctl open -m 0 -a "aio:$T/a.img" || fail "open"
tap-io -m 0 -c 'read 0 4k' >/dev/null || fail "the ring is not reached"
[ -S "$RUN/nbd0.sock" ] || fail "NBD is not reached: $(names)"
stop_ctl

# --- and of an unpause, which nobody can give its file any more: it stays paused.
start_ctl
create "aio:$T/a.img"
tap-ctl pause -m 0 || fail "pause"
kill -STOP "$PID"
tap-ctl unpause -m 0 -a "aio:$T/b.img" 2>/dev/null &
own $!
unpausing() { grep -qx 'state unpausing' "$RUN/disk0"; }
wait_for 5 unpausing || fail "unpause: $(names)"
kill9
blktapctrl --foreground ${SAN:+--tapdisk-arg --no-sandbox} >>"$T/ctl.log" 2>&1 &
CTL_PID=$!
sleep 0.5
kill -CONT "$PID"
wait_for 9 answers || fail "not ready"
is_paused() { [ "$(disk_state 0)" = paused ]; }
wait_for 5 is_paused || fail "half an unpause: $(shown)"
sleep 0.6
tap-ctl unpause -m 0 || fail "unpause"
[ "$(disk_json 0 | jq -r .path)" = "$T/a.img" ] || fail "unpaused: $(shown)"
stop_ctl

# --- and of a create, before its tapdisk had said a word: it goes when it speaks.
echo stop >"$T/modes/0"
rm -f "$T/modes/1"
start_ctl --tapdisk "$T/fake/tapdisk" --tapdisk-arg --modes --tapdisk-arg "$T/modes"
tap-ctl create -a "aio:$T/a.img" >/dev/null 2>&1 &
own $!
stopped() { grep -qs '^State:.T' /proc/"$(tapdisk_pids)"/status; }
wait_for 5 stopped || fail "create"
kill9
start_ctl
disk_json 0 >/dev/null || fail "half a create is lost: $(shown) $(names), tapdisks: $(tapdisk_pids)"
kill -CONT "$(tapdisk_pids)"
all_gone() { [ -z "$(tapdisk_pids)" ] && [ "$(names)" = "./ctl.sock ./lock " ]; }
wait_for 5 all_gone || fail "half a create stays: $(shown) $(names)"
stop_ctl

# --- the run directory must be ours alone.
mkdir "$T/open" "$T/file.d" && chmod 777 "$T/open"
: >"$T/file"
for d in "$T/open" "$T/file" "$T/none/run"; do
	refuse 1 timeout 40 blktapctrl --foreground --rundir "$d"
	note "$ERR"
	refuse 1 timeout 40 blktapctrl --rundir "$d"
done
mkdir -m 700 "$T/odd" "$T/odd/ctl.sock"
refuse 1 timeout 40 blktapctrl --foreground --rundir "$T/odd"
[[ $ERR == *"cannot listen on $T/odd/ctl.sock"* ]] || fail "$ERR"
refuse 2 blktapctrl --rundir relative
refuse 2 blktapctrl --bogus
refuse 2 blktapctrl --poll-us x

# --- in the background: ready when the command returns.
timeout 40 blktapctrl --log syslog ${SAN:+--tapdisk-arg --no-sandbox} || fail "start in the background"
tap-ctl list >/dev/null || fail "not ready"
create ram:1M
tap-ctl shutdown || fail "shutdown"
wait_for 5 rundir_empty || fail "left: $(names)"
exit 0
