#!/bin/bash
# TIMEOUT: 600
# Disks of all kinds under a load that knows what they must hold, through their rings,
# while their tapdisks are killed at random and replaced: nothing that was answered is
# lost, and the load sees no error.  In the end the images are whole, and hold what the
# disks did.  And without the journal, or without the redo log, that is not so.
#
# ROUNDS=10 kills of each disk; SEED; DISKS="aio qcow2 luks vmdk"
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq qemu-img nbdcopy pgrep
seed
RANDOM=$((SEED % 32768))

# A successor that finds its journal or its redo log empty, when $T/wipe says so.
mkdir "$T/bin"
cat >"$T/bin/tapdisk" <<END
#!/bin/sh
for f in \$(cat "$T/wipe" 2>/dev/null); do
	n=\$(stat -c %s "\$f") && truncate -s 0 "\$f" && truncate -s "\$n" "\$f" &&
		fallocate -l "\$n" "\$f"
done
exec "$BIN/tapdisk" "\$@"
END
chmod +x "$T/bin/tapdisk"

printf secret >"$T/key"
declare -A spec opts file format minor
make_image() # NAME
{
	local f=$T/$1
	case $1 in
	aio)
		truncate -s 24M "$f" && spec[$1]=aio:$f ;;
	qcow2)
		random_file "$f.base" 24
		qemu-img create -q -f qcow2 -o cluster_size=4k -b "$f.base" -F raw "$f" ;;
	luks)
		qemu_img_luks create -q --object "secret,id=k,file=$T/key" -f qcow2 -o \
			encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10 "$f" 24M
		spec[$1]=qcow2:$f opts[$1]="--key-file $T/key" ;;
	vmdk)
		qemu-img create -q -f vmdk "$f" 24M ;;
	esac || fail "qemu-img: $1"
	file[$1]=$f format[$1]=${spec[$1]:-$1:}
	format[$1]=${format[$1]%%:*}
	: "${spec[$1]:=$1:$f}" "${opts[$1]:=}"
}
loads=
end_loads()
{
	local of
	of=$(echo $loads | tr ' ' ',')
	# shellcheck disable=SC2046,SC2086
	[ -z "$of" ] || { kill -KILL $(pgrep -P "$of") $loads; wait $loads; } 2>/dev/null
}
at_exit end_loads
# Requests of one session after the other, until there is a $T/stop.
load() # NAME
{
	local n=0
	while [ ! -e "$T/stop" ]; do
		tap-io -m "${minor[$1]}" --queues 2 -c "verify --seed $((SEED + n)) \
			--ops 4000 --bs 128k --length 24M" >"$T/$1.out" 2>&1 || {
			echo "$1: status $?, seed $((SEED + n)): $(tail -n 5 "$T/$1.out")"
			return 1
		}
		n=$((n + 1))
	done
	echo "$1: $n sessions"
}
start_load() # NAME...
{
	rm -f "$T/stop"
	loads=
	for d in "$@"; do
		load "$d" >"$T/$d.end" 2>&1 &
		loads="$loads $!"
	done
}
declare -A victim
kill_all() # NAME...: and wait for those that take over
{
	for d in "$@"; do victim[$d]=$(pid_of "${minor[$d]}"); done
	for d in "$@"; do
		[ "${victim[$d]}" -gt 0 ] && kill -KILL "${victim[$d]}" || fail "$d: no tapdisk ${victim[$d]}"
		sleep 0.0$((RANDOM % 10))
	done
	for d in "$@"; do
		wait_for 20 taken_over "${minor[$d]}" "${victim[$d]}" || fail "$d: $(tap-ctl list)"
	done
}
loads_alive() { for p in $loads; do kill -0 "$p" 2>/dev/null || return 1; done; }

read -ra disks <<<"${DISKS:-aio qcow2 luks vmdk}"
start_ctl --tapdisk "$T/bin/tapdisk"
for d in "${disks[@]}"; do
	make_image "$d"
	# shellcheck disable=SC2086
	create "${spec[$d]}" ${opts[$d]}
	minor[$d]=$MINOR
done
start_load "${disks[@]}"
for ((r = 1; r <= ${ROUNDS:-10}; r++)); do
	# (A death within a second of the one before counts as a crash.)
	sleep 1.$((RANDOM % 10))
	loads_alive || fail "round $r: $(cat "$T"/*.end)"
	kill_all "${disks[@]}"
done
sleep 0.3
: >"$T/stop"
for p in $loads; do wait "$p" || fail "$(cat "$T"/*.end)"; done
cat "$T"/*.end
for d in "${disks[@]}"; do
	hash=$(nbd_hash "nbd+unix:///?socket=$RUN/nbd${minor[$d]}.sock")
	destroy "${minor[$d]}"
	key=()
	[ "$d" != luks ] || key=(--object "secret,id=k,file=$T/key" --image-opts \
		"driver=qcow2,encrypt.key-secret=k,file.filename=${file[$d]}")
	[ "$d" = luks ] || key=(-f "${format[$d]/aio/raw}" "${file[$d]}")
	[ "$d" = aio ] || qemu-img check -q "${key[@]}" >"$T/check" 2>&1 || [ $? = 3 ] ||
		fail "$d: $(cat "$T/check")"
	qemu-img convert -O raw "${key[@]}" "$T/raw" || fail "qemu-img convert: $d"
	[ "$(file_hash "$T/raw")" = "$hash" ] || fail "$d: the image is not what the disk was"
done

# --- and without them?
over() # PID: it is replaced, or nothing will come of it
{
	taken_over "$MINOR" "$1" || [ "$(disk_state "$MINOR")" = dead ] || ! loads_alive
}
load_over() { ! loads_alive; }
for what in journal redo; do
	[ -z "${DISKS:-}" ] || break
	rm -f "$T"/qcow2* "$T"/*.end
	make_image qcow2
	create "${spec[qcow2]}"
	minor[qcow2]=$MINOR
	echo "$RUN/$what$MINOR" >"$T/wipe"
	start_load qcow2
	lost=
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
		sleep 1.$((RANDOM % 10))
		old=$(pid_of "$MINOR")
		kill -KILL "$old"
		wait_for 10 over "$old"
		taken_over "$MINOR" "$old" && loads_alive || { lost=1; break; }
	done
	# What the last one lost may be yet to be read.
	[ -n "$lost" ] || wait_for 20 load_over || fail "without its $what nothing is lost: why is it there?"
	note "without $what: $(cat "$T/qcow2.end"; tail -n 2 "$T/ctl.log")"
	end_loads
	rm -f "$T/wipe"
	tap-ctl destroy -m "$MINOR" >/dev/null 2>&1 || tap-ctl destroy -f -m "$MINOR"
done
stop_ctl
