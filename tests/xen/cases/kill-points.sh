# A tapdisk dies by itself at a step of answering a request - taken, executed, answered,
# noted, its answer shown, pushed, told, or when it is replayed: the guest's verifying
# load sees nothing.  One that is not armed takes its place, and lives for a second
# (faster deaths, one after another, are a crash loop) before it makes room for the next
# that is.
#
# A list is of POINT:HOW-OFTEN-IT-IS-REACHED:THREADS.  In the short one: done and not
# recorded; recorded as answered before the ring has it; and in the ring with nobody
# told, which a guest that has no other request would never hear of.
# SHORT: 4.17
# TIMEOUT: 1800
. /lab/cases/kill.inc
truncate -s 8M "$T/a.img"
tap-img create -q -f qcow2 "$T/b.qcow2" 8M || fail "create"
images="aio:$T/a.img"
points='ring-executed:37:6 ring-noted:31:6 ring-shown:31:1'
if [ -n "$FULL" ]; then
	images="$images qcow2:$T/b.qcow2"
	points='ring-taken:41:6 ring-executed:37:6 ring-answered:29:6 ring-noted:31:6
		ring-shown:37:6 ring-shown:37:1 ring-pushed:31:6 ring-pushed:31:1
		ring-notified:37:6 ring-replay:1:6'
fi
cat >"$T/tapdisk" <<END
#!/bin/sh
[ ! -e "$T/arm" ] || { rm "$T/arm"; exec /usr/sbin/tapdisk "\$@" --kill-at "\$(cat "$T/point")"; }
exec /usr/sbin/tapdisk "\$@"
END
chmod +x "$T/tapdisk"
restarts() { number restarts "$(tap-ctl list --json)"; }
two_more() { [ "$(restarts)" = $((before + 2)) ] && successor 0; }
guest
start_ctl --tapdisk "$T/tapdisk"
deaths=0
for point in $points; do
	echo "${point%:*}" >"$T/point"
	for image in $images; do
		case $point in	# there must be something to replay
		ring-replay:*) image="delay:ms=20|$image" ;;
		esac
		attach xvdb "$image"
		MINOR=0
		must "load_begin /dev/xvdb 100000 ${point##*:}"
		for i in 1 2 3; do
			sleep 1.3
			before=$(restarts)
			: >"$T/arm"
			kill -KILL "$(pid_of_disk)"
			wait_for 30 two_more || fail "$point, $image: not dead, or not replaced: $(tap-ctl list)"
			must load_on
			deaths=$((deaths + 1))
		done
		must load_end
		detach xvdb
	done
done
stop_ctl
must calm
sound "$T/b.qcow2"
echo "NOTE: $deaths deaths at points, as many by kill -9, no error"
