#!/bin/bash
# TIMEOUT: 240
# A frontend that writes what it should not: its own disk is closed with a reason
# in log and node, and begins again when it does; the daemon and other guests'
# disks do not notice.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
. "$(dirname "$0")/../lib/xen.sh"
truncate -s 8M "$T/a.img" "$T/b.img"
start_xenstored
start_xen_ctl
# The neighbour.
device 2 51712; toolstack "aio:$T/b.img"; front_rings; await_state 4; front 4
neighbour=$B
device 1 51712; toolstack "aio:$T/a.img"; await_state 2
wait_for 5 xs blktap-minor >/dev/null

# hostile KEY VALUE...: refused, with these keys beside good ones.
hostile()
{
	local n=$(log_count "refused:")
	front 3 ring-ref 8 event-channel 9 protocol x86_64-abi "$@"
	await_state 6
	[[ "$(xs hotplug-error)" == *"${WANT:-$1}"* ]] || fail "$*: $(xs hotplug-error)"
	[ "$(xs hotplug-error)" = "$(xs hotplug-error | tr -cd ' -~')" ] || fail "$*: unclean"
	front 6
	local k
	for k; do xenstore-rm "$F/$k" 2>/dev/null; done
	xenstore-rm "$F/queue-0" 2>/dev/null
	front 1
	await_state 2
}
SECONDS=0
big=$(printf '9%.0s' $(seq 1500))
hostile ring-page-order 5
hostile ring-page-order 31
hostile ring-page-order -1
hostile ring-page-order 4294967295
hostile ring-page-order "$big"
hostile ring-page-order ''
hostile multi-queue-num-queues 0
hostile multi-queue-num-queues 9
hostile multi-queue-num-queues 65536
hostile event-channel 0
hostile event-channel -1
hostile event-channel 4294967305
hostile ring-ref abc
hostile ring-ref "$big"
hostile ring-ref 4294967296
hostile protocol "$(printf '\033[2Jx86\n')"
hostile protocol x86_64-abi2
hostile feature-persistent 7
WANT=ring-ref0 hostile ring-ref1 2 ring-page-order 1		# ring-ref0 is missing
hostile event-channel '' multi-queue-num-queues 1
# What xenstore cannot know: the tapdisk finds that the grant is none.
front 3 ring-ref 666 event-channel 9; await_state 6
[[ "$(xs hotplug-error)" == *"no such grant"* ]] || fail "$(xs hotplug-error)"
front 6; front 1; await_state 2
# The log did not take it all: at most 10 lines in 10 s.
[ "$(log_count 'xvda of domain 1: refused:')" -le $((10 * (SECONDS / 10 + 1))) ] ||
	fail "the log can be filled"

# States that are none, or come in no order that there is.
for s in 99 -1 abc '' "$big" 0 7 8 2; do
	front "$s"
	sleep 0.05
done
front 1; await_state 2 20
front_rings; await_state 4; front 4
for s in 99 abc '' 7 8; do front "$s"; done
sleep 0.3
front 4
sleep 0.3
state_is 4 || front 1

# A flood of states and of nodes; others are served meanwhile.
(
	i=0
	while [ $i -lt 300 ]; do
		xenstore-write "$F/state" 5 "$F/state" 6 "$F/state" 1 "$F/state" 3 \
			"$F/x$i" y "$F/state" 4 "$F/state" 0
		i=$((i + 1))
	done
) & flood=$!
for i in 1 2 3 4 5; do
	within5 tap-ctl list >/dev/null || fail "no answer during the flood"
	sleep 0.2
done
wait $flood
front 6; await_state 6; front 1; await_state 2
front_rings; await_state 4; front 4

# Rings that the tapdisk stops by itself.
front 6; await_state 6; front 1; await_state 2
front 3 ring-ref 8 event-channel 777; await_state 4; front 4
await_log "its rings were stopped: more requests than slots"
[ "$(tap-ctl xen-list --json | jq -r '.[] | select(.guest == 1) | .broken')" = true ] || fail "not told"
front 5; await_state 5; front 6; await_state 6
front 1; await_state 2; front_rings; await_state 4; front 4

# The same before it is told that it is connected: refused, and not connected for ever.
refused_for() { state_is 6 && [[ $(xs hotplug-error) == *"stopped its rings"* ]]; }
for i in 1 2 3 4 5 6 7 8; do	# it may have been told first
	front 6; await_state 6; front 1; await_state 2
	front 3 ring-ref 8 event-channel 776
	! wait_for 3 refused_for || break
done
refused_for || fail "state $(xs state), $(xs hotplug-error), $(log_count "port=776") connects"
[ "$(log_count "connect 1/51712 .*port=776")" -le $i ] || fail "connected again by itself"
front 6; front 1; await_state 2; front_rings; await_state 4; front 4

# A tapdisk that is not listened to any more still has the guest's pages: it has ended when
# the guest is told that they are its own again.
device 3 51712
truncate -s 8M "$T/c.img"
toolstack "aio:$T/c.img"; front 3 ring-ref 8 event-channel 775; await_state 4 15; front 4
wait_for 20 logged "not listened to any more" || fail "it may talk for ever"
mad=$(xs kthread-pid)
gone "$mad" && fail "ended while its guest uses it"
front 5; await_state 5; front 6
await_state 6 15
gone "$mad" || fail "told 6 while tapdisk $mad has its rings: $(tap-ctl list)"
front 6; wish_end; remove_nodes
await_disks 2
xenstore-rm /local/domain/3
device 1 51712

# The whole directory comes and goes.
for i in 1 2 3; do
	xenstore-rm "$F"; await_state 6
	front 1; await_state 2; front_rings; await_state 4
done

[ "$(xenstore-read "$neighbour/state")" = 4 ] || fail "the neighbour's state"
[ "$(log_count 'connect 2/51712')" = 1 ] || fail "the neighbour was touched"
xenstore-rm /local/domain/1 /local/domain/2
await_disks 0
gone_both() { xs_gone "$neighbour" && xs_gone "$B"; }
wait_for 5 gone_both || fail "nodes stay"
stop_ctl
