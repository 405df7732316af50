# Every tapdisk dies by itself at a step of answering a request - taken, executed,
# answered, noted, its answer shown, pushed, told - and its successor does
# so again: the guest's verifying load sees nothing.
#
# A list is of POINT:HOW-OFTEN-IT-IS-REACHED:THREADS.  In the short one: done and not
# recorded; recorded as answered before the ring has it; and in the ring with nobody
# told, which a guest that has no other request would never hear of.
# TIMEOUT: 1800
. /lab/cases/kill.inc
truncate -s 8M "$T/a.img"
tap-img create -q -f qcow2 "$T/b.qcow2" 8M || fail "create"
images="aio:$T/a.img"
points='ring-executed:97:6 ring-noted:61:6 ring-shown:61:1'
if [ -n "$FULL" ]; then
	images="$images qcow2:$T/b.qcow2"
	points='ring-taken:101:6 ring-executed:97:6 ring-answered:89:6 ring-noted:131:6
		ring-shown:127:6 ring-shown:127:1 ring-pushed:61:6 ring-pushed:61:1
		ring-notified:67:6'
fi
guest
deaths=''
for point in $points; do
	for image in $images; do
		start_ctl --tapdisk-arg --kill-at --tapdisk-arg "${point%:*}"
		attach xvdb "$image"
		MINOR=0
		first=$(pid_of_disk)
		must "guestio load /dev/xvdb ${SECS:-12} ${point##*:}"
		successor "$first" || fail "$point: tapdisk $first has not died"
		deaths="$deaths ${point%%:*} $(number restarts "$(tap-ctl list --json)")"
		detach xvdb
		stop_ctl
	done
done
must calm
sound "$T/b.qcow2"
echo "NOTE: deaths:$deaths"
