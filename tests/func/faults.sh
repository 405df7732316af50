#!/bin/bash
# TIMEOUT: 120
# kill -9 at random times under load, of a tapdisk that is not replaced, of
# blktapctrl or of a client.  After each: nothing hangs, nothing leaks, the other disks have not
# noticed, a new daemon takes over what lives.  ROUNDS=8, SEED, MODES
set -u
. "$(dirname "$0")/../lib/test.sh"
requires fio nbdcopy jq
seed
RANDOM=$((SEED % 32768))
rounds=${ROUNDS:-8}
read -ra modes <<<"${MODES:-tapdisk daemon client both}"
size=16

# Three disks: the victim is loaded and killed; the bystander is written and
# verified all the while; the witness rests, and what it holds is known.
for d in victim bystander witness; do
	random_file "$T/$d.img" $size
done
hash=$(file_hash "$T/witness.img")
start_ctl --no-restart
add()	# add NAME: creates it, and remembers its minor and pid
{
	create "aio:$T/$1.img"
	minor[$1]=$MINOR
	pid[$1]=$PID
}
uri() { echo "nbd+unix:///?socket=$RUN/nbd${minor[$1]}.sock"; }
declare -A minor pid
for d in victim bystander witness; do add $d; done

load()	# load NAME SECONDS OPTION...: fio in the background, its pid in LOAD
{
	local d=$1 s=$2
	shift 2
	(cd "$T" && exec fio --name="$d" --ioengine=nbd --uri="$(uri "$d")" \
		--thread --rw=randrw --bssplit=512/20:4k/60:64k/20 --blockalign=512 \
		--iodepth=16 --size=${size}M --time_based --runtime="$s" \
		--verify_state_save=0 --output="$T/$d.fio" "$@") >"$T/$d.err" 2>&1 &
	LOAD=$!
	own $LOAD
}
ring_load()	# the same through the ring, until it is killed
{
	local abi=(native x86_32 x86_64)
	tap-io -m "${minor[victim]}" --abi "${abi[RANDOM % 3]}" \
		--queues $((1 + RANDOM % 4)) -c "verify --seed $RANDOM --ops 999999999" \
		>"$T/victim.err" 2>&1 &
	LOAD=$!
	own $LOAD
}
# What a life of all three leaves open; the counts after a round must be these.
entries() { (cd "$RUN" && find . -mindepth 1 | sort | tr '\n' ' '); }
counts()
{
	echo "daemon $(fds "$CTL_PID")"
	for d in victim bystander witness; do echo "$d $(fds "${pid[$d]}")"; done
}
settled() { [ "$(counts)" = "$want" ]; }
running() { [ "$(disk_state "${minor[$1]}")" = running ]; }
dead() { [ "$(disk_state "${minor[victim]}")" = dead ]; }
nothing_of_victim()
{
	[ -z "$(find "$RUN" -name "*[a-z]${minor[victim]}" -o \
		-name "*[a-z]${minor[victim]}.sock")" ]
}

fds_at_rest "$CTL_PID" >/dev/null
want=$(counts) names=$(entries)

for r in $(seq "$rounds"); do
	# every mode with either load within eight rounds
	mode=${modes[(SEED + r) % ${#modes[@]}]}
	delay=0.$((RANDOM % 6))$((RANDOM % 10))
	if [ $(((r - 1) / ${#modes[@]} % 2)) = 0 ]; then via=ring; else via=nbd; fi
	note "round $r: kill $mode after $delay s, load through $via"
	load bystander 2 --rw=randwrite --verify=crc32c --do_verify=0 \
		--verify_backlog=64 --verify_fatal=1
	bystander=$LOAD
	if [ $via = nbd ]; then load victim 30; else ring_load; fi
	victim=$LOAD
	sleep "$delay"
	kill -0 "$victim" || fail "the load ended: $(cat "$T/victim.err")"
	case $mode in
	tapdisk|both)
		kill -KILL "${pid[victim]}"
		[ "$mode" = tapdisk ] || kill -KILL "$CTL_PID" ;;
	daemon)
		kill -KILL "$CTL_PID" ;;
	client)
		kill -KILL "$victim" ;;
	esac

	case $mode in
	tapdisk)
		wait_for 5 gone "$victim" || fail "the client of a dead disk hangs"
		wait_for 5 dead || fail "death unnoticed: $(within5 tap-ctl list)"
		wait_for 5 nothing_of_victim || fail "names of the dead: $(entries)" ;;
	daemon|both)
		wait_for 5 gone "$CTL_PID" || fail "blktapctrl hangs"
		wait "$CTL_PID" 2>/dev/null
		start_ctl --no-restart ;;
	client)
		wait_for 5 gone "$victim" || fail "the client hangs" ;;
	esac
	if [ "$mode" = both ]; then
		wait_for 5 gone "$victim" || fail "the client of a dead disk hangs"
		disk_json "${minor[victim]}" >"$T/both" &&
			within5 tap-ctl destroy -m "${minor[victim]}"
		nothing_of_victim || fail "names of the dead: $(entries)"
	fi
	kill -KILL "$victim" 2>/dev/null
	wait "$victim" 2>/dev/null

	# The others have not noticed.
	wait_for 30 gone "$bystander" || fail "the bystander's client hangs"
	wait "$bystander" || fail "the bystander's client: $(cat "$T/bystander.err" \
		"$T/bystander.fio" | head -n 20)"
	running bystander && running witness || fail "states: $(tap-ctl list --json)"
	[ "$(nbd_hash "$(uri witness)")" = "$hash" ] || fail "the witness has changed"
	if [ "$mode" = tapdisk ]; then
		within5 tap-ctl destroy -m "${minor[victim]}" || fail "destroy"
	fi
	case $mode in tapdisk|both) add victim ;; esac
	running victim || fail "the victim: $(tap-ctl list --json)"
	within5 tap-ctl pause -m "${minor[victim]}" || fail "pause"
	within5 tap-ctl unpause -m "${minor[victim]}" || fail "unpause"

	# Nothing leaks.
	wait_for 5 settled || {
		ls -l "/proc/$CTL_PID/fd" "/proc/${pid[victim]}/fd"
		fail "descriptors:" $(counts), "at first:" $want
	}
	[ "$(entries)" = "$names" ] || fail "names: $(entries), at first: $names"
	n=$(tapdisk_pids | wc -l)
	[ "$n" = 3 ] || fail "$n tapdisks"
done
for d in bystander witness victim; do destroy "${minor[$d]}"; done
[ "$(file_hash "$T/witness.img")" = "$hash" ] || fail "the witness' file has changed"
stop_ctl
