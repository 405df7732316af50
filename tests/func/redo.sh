#!/bin/bash
# What an image's disk has answered is there after a kill -9 of its tapdisk, although
# nobody had asked for a flush, and also when the next one is killed while it takes
# over; the image is whole.  Without the redo log it is not.  ROUNDS (of 5 kills), SEED
set -u
. "$(dirname "$0")/../lib/test.sh"
requires qemu-img
seed
RANDOM=$((SEED % 32768))
BLOCKS=1024	# of 16 KiB
kills=$((${ROUNDS:-1} * 5))
sock=$RUN/ring0.sock

serving() { [ "$(grep -c serving "$T/ctl.log")" -gt "$lives" ]; }
tapdisk_up()
{
	lives=$(grep -c serving "$T/ctl.log")
	tapdisk --foreground -m 0 -a "$spec" --rundir "$RUN" "$@" >>"$T/ctl.log" 2>&1 &
	pid=$!
	own $pid
}
up() { tapdisk_up "$@" && { wait_for 10 serving || fail "no tapdisk: $(tail "$T/ctl.log")"; }; }
slay()
{
	kill -KILL $pid 2>/dev/null
	{ wait $pid; } 2>/dev/null
}
# Some writes and discards; holds[] is what each block must be.
change()
{
	local i n b k
	: >"$T/cmds"
	for ((i = 0; i < 60; i++)); do
		n=$((1 + RANDOM % 12)) b=$((RANDOM % (BLOCKS - 12))) p=$((1 + RANDOM % 255))
		if [ $((RANDOM % 6)) = 0 ]; then
			p=0
			echo "write -qz $((b * 16))k $((n * 16))k"
		else
			echo "write -q -P $p $((b * 16))k $((n * 16))k"
		fi >>"$T/cmds"
		for ((k = b; k < b + n; k++)); do holds[k]=$p; done
	done
	tap-io "$sock" <"$T/cmds" >"$T/said" 2>&1 || fail "tap-io: $(cat "$T/said")"
}
holds() # is it all there?
{
	local b
	for ((b = 0; b < BLOCKS; b++)); do
		echo "read -q -P ${holds[b]} $((b * 16))k 16k"
	done | tap-io "$sock" >"$T/said" 2>&1
}
whole()
{
	[ "$format" = qcow ] && return
	qemu-img check -U -q -f "$format" "$T/img" >"$T/check" 2>&1 || [ $? = 3 ] ||
		fail "$format: $(head "$T/check")"
}

touch "$T/ctl.log"
for image in "qcow2 cluster_size=4k" "qcow2 " "qcow2 extended_l2=on" "qcow " "vmdk "; do
	read -r format opts <<<"$image"
	spec=$format:$T/img
	fresh()
	{
		rm -f "$T/redo"
		qemu-img create -q -f "$format" ${opts:+-o "$opts"} "$T/img" 16M ||
			fail "qemu-img"
		for ((b = 0; b < BLOCKS; b++)); do holds[b]=0; done
	}
	fresh
	up --redo "$T/redo"
	for ((n = 0; n < kills; n++)); do
		change
		slay
		whole
		# The next one dies in the midst of it, or has nothing to do.
		tapdisk_up --redo "$T/redo" --recover --kill-at redo-replay:$((1 + RANDOM % 3))
		wait_for 10 eval "gone $pid || serving" || fail "$image: no tapdisk"
		slay
		up --redo "$T/redo" --recover
		whole
		holds || fail "$image, seed $SEED, after $((n + 1)) kills: $(head "$T/said")"
	done
	grep -q 'taken over from a process that died' "$T/ctl.log" ||
		fail "$image: nothing had to be taken over"
	kill -TERM $pid
	wait $pid || fail "$image: status $? on SIGTERM"
	whole

	# (A machine that stands still for seconds has written the tables by then.)
	for try in 1 2 3 4 5; do
		fresh
		up
		change
		slay
		up
		holds || break
		[ $try != 5 ] || fail "$image: all is there without a redo log: the test is blind"
		slay
	done
	kill -TERM $pid
	wait $pid || fail "$image: status $? on SIGTERM"
	: >"$T/ctl.log"
done
