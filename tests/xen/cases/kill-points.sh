# Every tapdisk dies by itself at a step of answering a request - taken, executed,
# answered, its answer shown, pushed, told - and its successor does so again: the
# guest's verifying load sees nothing.  Which steps, and how often a step is reached
# before it is deadly, is in the list.
# TIMEOUT: 1800
. /lab/cases/kill.inc
truncate -s 8M "$T/a.img"
tap-img create -q -f qcow2 "$T/b.qcow2" 8M || fail "create"
images="aio:$T/a.img"
points='ring-executed:97 ring-noted:131'
if [ -n "$FULL" ]; then
	images="$images qcow2:$T/b.qcow2"
	points='ring-taken:101 ring-executed:97 ring-answered:89 ring-noted:131 ring-shown:127
		ring-pushed:61 ring-notified:67'
fi
guest
for point in $points; do
	for image in $images; do
		start_ctl --tapdisk-arg --kill-at --tapdisk-arg "$point"
		attach xvdb "$image"
		MINOR=0
		first=$(pid_of_disk)
		must "guestio load /dev/xvdb ${SECS:-12} 6"
		successor "$first" || fail "$point: tapdisk $first has not died"
		detach xvdb
		stop_ctl
	done
done
must '! dmesg | grep -E "xvdb.*(error|wrong|disabled)"'
sound "$T/b.qcow2"
