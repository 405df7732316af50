#!/bin/bash
# TIMEOUT: 600
# A tapdisk that dies is replaced, whatever its disk is doing: clients reconnect and
# find everything that was answered, no lock falls, a call under way gets its answer,
# a paused disk stays paused; a tapdisk that cannot live is given up; what both
# processes' death leaves is revived by the next daemon, or by none if others have
# changed the image in between.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq qemu-img qemu-io nbdkit nbdcopy nbdinfo fio

# A tapdisk that dies at a point that $T/once names, at once while there is a
# $T/broken, and comes when there is no $T/slow.
mkdir "$T/bin"
cat >"$T/bin/tapdisk" <<END
#!/bin/sh
[ ! -e "$T/broken" ] || kill -ABRT \$\$
while [ -e "$T/slow" ]; do sleep 0.1; done
[ -s "$T/once" ] || exec "$BIN/tapdisk" "\$@"
at=\$(cat "$T/once")
rm "$T/once"
exec "$BIN/tapdisk" "\$@" --kill-at "\$at"
END
chmod +x "$T/bin/tapdisk"
start() { start_ctl --tapdisk "$T/bin/tapdisk" "$@"; }
is() { [ "$(disk_state "$1")" = "$2" ]; }
slay() # MINOR [STATE]: kill its tapdisk; sets PID to the next one's
{
	local old
	old=$(pid_of "$1")
	[ "$old" -gt 0 ] && kill -KILL "$old" || fail "there is no tapdisk $old"
	wait_for 10 taken_over "$1" "$old" "${2:-running}" || fail "not replaced: $(tap-ctl list)"
	PID=$(pid_of "$1")
	over "$old" || fail "two processes"
}
rest() { sleep 1.1; }	# a death before a second of life counts as a crash
io() { timeout 20 qemu-io -f raw -c "$1" "$URI" >"$T/io.out" 2>&1 &&
	! grep -qi fail "$T/io.out" || fail "$1: $(cat "$T/io.out")"; }

# --- a client that reconnects notices nothing, and nobody gets at the image.
locked() # FORMAT FILE: until $T/stop, QEMU must be refused
{
	local n=0
	while [ ! -e "$T/stop" ]; do
		if qemu-io -f "$1" -c 'read 0 512' "$2" >"$T/got" 2>&1; then
			echo "it was free: $(cat "$T/got")" && return 1
		fi
		grep -q 'lock' "$T/got" || { cat "$T/got"; return 1; }
		n=$((n + 1))
	done
	echo "$n tries"
}
start
truncate -s 32M "$T/raw.img"
qemu-img create -q -f raw "$T/base.img" 32M
qemu-img create -q -f qcow2 -b "$T/base.img" -F raw "$T/a.qcow2" || fail "qemu-img"
for spec in "aio:$T/raw.img" "qcow2:$T/a.qcow2"; do
	create "$spec"
	first=$PID file=${spec#*:} format=raw
	[[ $spec == aio:* ]] || format=qcow2
	nbdkit -f -U "$T/retry.sock" --filter=retry nbd socket="$NBD" retry=20 \
		retry-delay=1 retry-exponential=no 2>"$T/nbdkit.err" &
	kit=$!
	own $kit
	wait_for 5 [ -S "$T/retry.sock" ] || fail "nbdkit"
	rm -f "$T/stop"
	locked $format "$file" >"$T/locked" &
	lock=$!
	own $lock
	fio_nbd "nbd+unix:///?socket=$T/retry.sock" --rw=randwrite --bs=4k --iodepth=8 \
		--size=32M --time_based --runtime=5 --verify=crc32c --verify_fatal=1 \
		--fsync=50 --do_verify=0 --verify_backlog=64 >"$T/fio.said" 2>&1 &
	load=$!
	own $load
	sleep 0.7
	slay "$MINOR" && sleep 1.7 && slay "$MINOR"
	wait $load || fail "$spec: the load: $(cat "$T/fio.said" "$T/nbdkit.err")"
	: >"$T/stop"
	wait $lock || fail "$spec: $(cat "$T/locked")"
	note "$spec: $(cat "$T/locked")"
	[ "$(tap-ctl info -m "$MINOR" --json | jq .restarts)" = 2 ] || fail "restarts"
	[ "$(tap-ctl stats -m "$MINOR" | jq .restarts)" = 2 ] || fail "restarts in stats"
	tap-ctl info -m "$MINOR" --json | jq -er .last_death |
		grep -q '^tapdisk [0-9]* was killed by signal 9' || fail "why: $(tap-ctl info -m "$MINOR" --json)"
	# Its first pid is a name of it still.
	[ "$(tap-ctl list -p "$first")" = "$(tap-ctl list -m "$MINOR")" ] &&
		tap-ctl list -p "$first" | grep -q "^pid=$PID minor=$MINOR " ||
		fail "list -p of the first pid: $(tap-ctl list)"
	refuse any tap-ctl destroy -p 1 -m "$MINOR"
	[ "$(tap-ctl stats -p "$first" -m "$MINOR" | jq .pid)" = "$PID" ] || fail "stats -p"
	kill $kit; wait $kit; rm "$T/retry.sock"
	tap-ctl destroy -p "$first" -m "$MINOR" || fail "destroy -p of the first pid"
	[ $format = raw ] || qemu-img check -q -f qcow2 "$file" >"$T/check" 2>&1 ||
		[ $? = 3 ] || fail "qemu-img check: $(cat "$T/check")"	# 3: leaks alone
done

# --- a client that comes while there is none waits, and is served.
create "aio:$T/raw.img"
: >"$T/slow"
kill -KILL "$PID"
wait_for 5 is "$MINOR" opening || fail "$(tap-ctl list)"
timeout 60 nbdinfo --size "$URI" >"$T/info" 2>&1 &
info=$!
own $info
sleep 0.3
gone $info && fail "a client was turned away: $(cat "$T/info")"
rm "$T/slow"
wait $info || fail "a client that waited: $(cat "$T/info")"
wait_for 5 is "$MINOR" running || fail "$(tap-ctl list)"
destroy "$MINOR"

# --- paused: it stays so, without the image, and its clients are held.
create "qcow2:$T/a.qcow2"
io 'write -P 7 0 64k'
tap-ctl pause -m "$MINOR" || fail "pause"
slay "$MINOR" paused
qemu-img info -f qcow2 "$T/a.qcow2" >/dev/null || fail "a paused disk has its image"
timeout 20 qemu-io -f raw -c 'read -P 7 0 64k' "$URI" >"$T/held" 2>&1 &
held=$!
own $held
sleep 0.5
gone $held && fail "a paused disk has answered: $(cat "$T/held")"
tap-ctl unpause -m "$MINOR" || fail "unpause"
wait $held && ! grep -q failed "$T/held" || fail "after the unpause: $(cat "$T/held")"
destroy "$MINOR"

# --- a call that is under way gets its answer: the tapdisk dies as it has done it,
# before it says so.
dies_at() { echo "$1" >"$T/once"; create "qcow2:$T/a.qcow2"; io 'write -P 9 1M 64k'; }
dies_at op-done:2
within5 tap-ctl pause -m "$MINOR" || fail "pause"
is "$MINOR" paused || fail "$(tap-ctl list)"
[ "$(pid_of "$MINOR")" != "$PID" ] || fail "it has not died"
destroy "$MINOR"
for at in resume op-done:3; do
	dies_at $at
	tap-ctl pause -m "$MINOR" || fail "pause"
	within5 tap-ctl unpause -m "$MINOR" || fail "unpause, death at $at"
	[ "$(pid_of "$MINOR")" != "$PID" ] || fail "it has not died"
	io 'read -P 9 1M 64k'
	destroy "$MINOR"
done
dies_at op-done:2
within5 tap-ctl resize -m "$MINOR" 48M >/dev/null || fail "resize"
[ "$(pid_of "$MINOR")" != "$PID" ] || fail "it has not died"
[ "$(nbdinfo --size "$URI")" = $((48 << 20)) ] || fail "size"
destroy "$MINOR"
dies_at op-done:2
within5 tap-ctl close -m "$MINOR" || fail "close"
is "$MINOR" closed || fail "$(tap-ctl list)"
destroy "$MINOR"
dies_at op-done:2
io 'write -P 5 2M 64k'
within5 tap-ctl destroy -m "$MINOR" || fail "destroy"
qemu-io -f qcow2 -r -c 'read -P 5 2M 64k' -c 'read -P 9 1M 64k' "$T/a.qcow2" >"$T/out" 2>&1 &&
	! grep -q failed "$T/out" || fail "what was answered is not there: $(cat "$T/out")"
# ... but an open fails, as nobody has had that disk.
echo open >"$T/once"
refuse any within5 tap-ctl create -a "aio:$T/raw.img"
[ "$(tap-ctl list | wc -l)" = 0 ] || fail "$(tap-ctl list)"

# --- with keys: the daemon has them.
printf secret >"$T/key"
if qemu_img_luks create -q --object "secret,id=k,file=$T/key" -f luks \
	-o key-secret=k,iter-time=10 "$T/luks.img" 16M; then
	create "luks:$T/luks.img" --key-file "$T/key"
	io 'write -P 3 0 64k'
	# No passphrase opens it again: what has been found with it once does.
	data_key() { [ "$(readlink /proc/"$CTL_PID"/fd/* | grep -c '^/memfd:key')" = 2 ]; }
	wait_for 5 data_key || fail "the key of the data is not kept"
	dd if=/dev/zero of="$T/luks.img" bs=4k seek=1 count=1 conv=notrunc,fsync status=none
	cp "$T/luks.img" "$T/locked.img"
	refuse any tap-ctl create -a "luks:$T/locked.img" --key-file "$T/key"
	[[ $ERR == *"no passphrase"* ]] || fail "$ERR"
	slay "$MINOR"
	io 'read -P 3 0 64k'
	tap-ctl pause -m "$MINOR" && rest && slay "$MINOR" paused
	tap-ctl unpause -m "$MINOR" || fail "unpause with the keys of before"
	io 'read -P 3 0 64k'
	# Another daemon has them from the tapdisk, also of a paused disk.
	has_keys() { [ "$(grep -c "disk $MINOR: has its keys again" "$T/ctl.log")" = "$1" ]; }
	kill_ctl KILL; start
	wait_for 5 has_keys 1 || fail "no keys after adoption"
	slay "$MINOR"
	io 'read -P 3 0 64k'
	tap-ctl pause -m "$MINOR" || fail "pause"
	kill_ctl KILL; start
	wait_for 5 has_keys 2 || fail "no keys of a paused disk"
	rest && slay "$MINOR" paused
	# The one in its place has them too, and gives them.
	kill_ctl KILL; start
	wait_for 5 has_keys 3 || fail "no keys of a disk that was replaced while it was paused"
	tap-ctl unpause -m "$MINOR" || fail "unpause with the keys of before"
	io 'read -P 3 0 64k'
	wait_for 5 data_key || fail "keys pile up: $(ls -l "/proc/$CTL_PID/fd")"
	luks=$MINOR
fi

# --- one that cannot live is given up, says so once, and is dead as ever.
create "aio:$T/raw.img"
: >"$T/broken"
kill -KILL "$PID"
wait_for 20 is "$MINOR" dead || fail "not given up: $(tap-ctl list)"
[ "$(grep -c "disk $MINOR: given up: 5 tapdisks" "$T/ctl.log")" = 1 ] || fail "not told once"
# (Xen's block-tap would take its pid for a tapdisk that has the image.)
for p in '' "-t aio -f $T/raw.img" "-p $PID"; do
	# shellcheck disable=SC2086
	[ "$(tap-ctl list -m "$MINOR" $p)" = "minor=$MINOR state=0x1 args=aio:$T/raw.img" ] ||
		fail "list $p: $(tap-ctl list)"
done
rm "$T/broken"
refuse 16 tap-ctl create -a "aio:$T/raw.img"	# its lock stays, as ever
# Nor is another tried when the time is over in which the last one had to take over, 10 s.
before=$(tapdisk_pids)
sleep 11
[ "$(tapdisk_pids)" = "$before" ] && is "$MINOR" dead ||
	fail "tried again: $(tap-ctl list); $(tapdisk_pids), before: $before"
destroy "$MINOR"
# What waits for one that is being replaced can be cut short.
create "aio:$T/raw.img"
: >"$T/broken"
kill -KILL "$PID"
looping() { is "$MINOR" opening || is "$MINOR" dead; }
wait_for 5 looping || fail "$(tap-ctl list)"
within5 tap-ctl destroy -m "$MINOR" || fail "destroy in a crash loop"
rm "$T/broken"

# --- both die; the next daemon revives, but not what needs keys.
create "aio:$T/raw.img"
run=$MINOR first=$PID
io 'write -P 4 8M 64k'
create "qcow2:$T/a.qcow2" -R
ro=$MINOR
tap-ctl pause -m "$ro" || fail "pause"
kill_ctl KILL
for p in $(tapdisk_pids); do kill -KILL "$p"; done
start
wait_for 10 is "$run" running && wait_for 10 is "$ro" paused || fail "$(tap-ctl list)"
disk_json "$ro" | jq -e .read_only >/dev/null || fail "read-only is forgotten"
URI="nbd+unix:///?socket=$RUN/nbd$run.sock"
io 'read -P 4 8M 64k'
tap-ctl unpause -m "$ro" || fail "unpause"
[ "$(tap-ctl stats -p "$first" -m "$run" | jq .minor)" = "$run" ] || fail "its pid is forgotten"
[ -z "${luks:-}" ] || { grep -q "disk $luks: its tapdisk is not replaced: nobody has its keys" "$T/ctl.log" ||
	fail "the encrypted one: $(tap-ctl list)"; }
# ... also when the daemon died as it was about to.
has_one() { [ "$(pid_of "$run")" -gt 0 ]; }
slay_run() { wait_for 5 has_one && kill -KILL "$(pid_of "$run")" || fail "no tapdisk: $(tap-ctl list)"; }
: >"$T/slow"
slay_run
wait_for 5 is "$run" opening || fail "$(tap-ctl list)"
kill_ctl KILL
rm "$T/slow"
start
wait_for 5 is "$run" running || fail "$(tap-ctl list)"
URI="nbd+unix:///?socket=$RUN/nbd$run.sock"
io 'read -P 4 8M 64k'
[ "$(tapdisk_pids | wc -l)" = 2 ] || fail "processes: $(tap-ctl list) $(tapdisk_pids)"
kill_ctl KILL

# --- no lock has kept others off meanwhile: one with changes of tables that are in no
# file yet goes on where nobody was there, and is refused where somebody was.
both_die() # and have left a new b.qcow2 with changes of tables that are in no file
{
	local p left
	# They are written after some seconds, which a busy machine may need to kill.
	for _ in 1 2 3 4 5; do
		qemu-img create -q -f qcow2 "$T/b.qcow2" 32M || fail "qemu-img"
		create "qcow2:$T/b.qcow2"
		# (qemu-io would flush as it leaves: the redo log would be empty.)
		echo 'write -q -P 6 1M 256k' | tap-io "$RUN/ring$MINOR.sock" >"$T/out" 2>&1 ||
			fail "tap-io: $(cat "$T/out")"
		kill -KILL "$CTL_PID" "$PID"
		wait "$CTL_PID" 2>/dev/null
		CTL_PID=
		left="$PID $(tapdisk_pids)"
		# (The locks fall after the command line has.)
		for p in $left; do kill -KILL "$p"; done
		for p in $left; do wait_for 5 over "$p" || fail "tapdisk $p lives"; done
		qemu-io -r -f qcow2 -c 'read -P 0 1M 256k' "$T/b.qcow2" >"$T/out" 2>&1 &&
			! grep -q failed "$T/out" && return
		start
		destroy "$MINOR"
	done
	fail "it needs no redo log: $(cat "$T/out")"
}
start
n=1
for between in nobody damage somebody; do
	both_die
	[ $between != somebody ] || qemu-io -f qcow2 -c 'write -q -P 8 8M 1M' \
		"$T/b.qcow2" || fail "an image of the dead is locked"
	[ $between != damage ] || dd if=/dev/urandom of="$RUN/redo$MINOR" bs=4k seek=1 \
		count=8 conv=notrunc status=none
	cp "$T/b.qcow2" "$T/was"
	start
	if [ $between = nobody ]; then
		wait_for 5 is "$MINOR" running || fail "$(tap-ctl list)"
		io 'read -P 6 1M 256k'
	else
		why="others may have changed it"
		[ $between = somebody ] || why="what a process.*its redo log is damaged"
		wait_for 10 is "$MINOR" dead || fail "revived: $(tap-ctl list)"
		grep -q "cannot open $T/b.qcow2: $why" "$T/ctl.log" || fail "not told why"
		[ "$(grep -c "disk $MINOR: given up.* no other could" "$T/ctl.log")" = $n ] ||
			fail "not given up at once, or not told once"
		n=$((n + 1))
		cmp "$T/b.qcow2" "$T/was" || fail "it was refused, and changed"
	fi
	destroy "$MINOR"
done
create "qcow2:$T/b.qcow2"	# as a new disk
io 'read -P 8 8M 1M'
destroy "$MINOR"
tap-ctl destroy -m "$run" && tap-ctl destroy -m "$ro" || fail "destroy"
create "aio:$T/raw.img"
run=$MINOR
kill_ctl KILL

# --- --no-restart: the dead stay dead, and so with those of a dead daemon.
start --no-restart
slay_run
wait_for 5 is "$run" dead || fail "$(tap-ctl list)"
stop_ctl

# --- what an earlier boot of the host has left, in a run directory that stays, is not
# taken up: its redo log would put old tables over newer ones.
start
create "aio:$T/raw.img"
kill_ctl KILL
kill -KILL "$PID"
sed -i '1s/^boot .*/boot 0/' "$RUN/disk$MINOR" || fail "its memo"
start
[ "$(pid_of "$MINOR")" = 0 ] || fail "another boot: $(tap-ctl list)"
grep -q "disk $MINOR was served before this host" "$T/ctl.log" || fail "not told"
stop_ctl
