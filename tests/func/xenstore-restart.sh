#!/bin/bash
# TIMEOUT: 240
# The daemon and xenstored end and begin again, in every state that a device can be
# in: what is connected stays as it is, what was on its way goes on, what has
# ended meanwhile is ended.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
. "$(dirname "$0")/../lib/xen.sh"
for i in a b c d e; do truncate -s 8M "$T/$i.img"; done
start_xenstored
start_xen_ctl
xenstore-write /local/domain/1/device/vbd "" /local/domain/0/backend/tap ""
N=$(nodes)
# again [SIGNAL]: the daemon ends, `meanwhile' happens, and another one begins.
meanwhile() { :; }
again()
{
	kill_ctl "${1:-TERM}"
	meanwhile
	start_xen_ctl
}
states_are()
{
	[ "$(tap-ctl xen-list --json 2>/dev/null |
		jq -c '[.[] | [.device, .backend, .minor, .served]] | sort')" = "$1" ]
}
put() { toolstack "aio:$T/$1.img" "${2:-w}"; }

device 1 51712; put a; front_rings; await_state 4; front 4		# connected
device 1 51728; put b; await_state 2; wait_for 5 xs blktap-minor >/dev/null	# no frontend yet
device 1 51744; put c; front_rings; await_state 4; front 5; await_state 5	# closing
device 1 51760; put d; front_rings; await_state 4; front 6; await_state 6	# closed
want='[["xvda","connected",0,true],["xvdb","waiting",1,false],["xvdc","closing",2,true],["xvdd","closed",3,false]]'
wait_for 5 states_are "$want" || fail "before: $(tap-ctl xen-list)"
for d in 51712 51744 51760; do await_log "hostxen: statistics 1/$d"; done	# nobody waits for those
calls=$(log_count "hostxen:")
for s in TERM KILL TERM; do
	again $s
	wait_for 5 states_are "$want" || fail "$s: $(tap-ctl xen-list)"
done
[ "$(disks)" = 4 ] || fail "disks: $(tap-ctl list)"
# The toolstack wants one to end, and its guest uses it still.
device 1 51712
meanwhile() { xenstore-write "$B/state" 5; }
again; sleep 0.5
logged "disconnect 1/51712" && fail "let go while the guest uses it"
xenstore-write "$B/state" 4
meanwhile() { :; }
# xentop's numbers are asked for anew; nothing else was asked of a tapdisk.
[ "$(($(log_count "hostxen:") - $(log_count "hostxen: statistics 1/517[14]")))" = $((calls - 2)) ] ||
	fail "$(grep hostxen: "$T/ctl.log")"

note "what was on its way goes on"
device 1 51728; front_rings; await_state 4; front 4
device 1 51744; front 6; await_state 6
device 1 51760; front 1; await_state 2; front_rings; await_state 4; front 4

note "what happened meanwhile"
meanwhile()
{
	device 1 51712; front 5			# shuts down
	device 1 51728; xenstore-rm "$B" "$F"	# forced away
	device 1 51744; front 1			# begins again
	device 1 51760; xenstore-write "$B/state" 2	# as if it had not come further
	device 1 51776; put e; front_rings	# new
}
again KILL
meanwhile() { :; }
device 1 51712; await_state 5; front 6; await_state 6
device 1 51744; await_state 2; front_rings; await_state 4; front 4
device 1 51760; await_state 4; logged "disconnect 1/51760" || fail "not begun anew"
device 1 51776; await_state 4; front 4
# (From now on it counts which minors are free.)
wait_for 15 logged "disk 1: no node of xenstore refers to it" || fail "what was forced away meanwhile"
await_disks 4

note "xenstored answers late: nobody knows yet which disks are referred to"
pid=$(xs kthread-pid)
kill_ctl KILL
kill -STOP "$XS_PID"
start_xen_ctl
sleep 6
tap-ctl list -p "$pid" | grep -q state=0 || fail "a guest's disk: $(tap-ctl list)"
kill -CONT "$XS_PID"
sleep 0.3
[ "$(xs kthread-pid)" = "$pid" ] || fail "another tapdisk than $pid"

note "xenstored ends, and another begins with what there was"
xenstore-ls -f / | sed -n 's/^\(\/local.*\) = "\(.*\)"$/\1 \2/p' >"$T/dump"
stop_xenstored
await_log "the connection has ended"
refuse any timeout 40 tap-ctl xen-list
tap-ctl list >/dev/null || fail "the loop stands still"
kill -STOP "$CTL_PID"	# it sees all of it, or none
start_xenstored
while read -r k v; do xenstore-write "$k" "${v:-}"; done <"$T/dump"
kill -CONT "$CTL_PID"
want='[["xvda","closed",0,false],["xvdc","connected",2,true],["xvdd","connected",3,true],["xvde","connected",4,true]]'
states_short()
{
	[ "$(tap-ctl xen-list --json 2>/dev/null |
		jq -c '[.[] | [.device, .backend, .minor, .served]] | sort')" = "$want" ]
}
wait_for 8 states_short || fail "after xenstored: $(tap-ctl xen-list --json | jq -c .)"
front 5; await_state 5; front 6; await_state 6

note "a tapdisk that ends takes its device with it, not the others"
device 1 51744
kill -KILL "$(xs kthread-pid)"
device 1 51760; front 5; await_state 5; front 6; await_state 6

note "a script's disk ends before the next daemon reads its node, and another has its minor"
device 1 51792 vbd3
truncate -s 4M "$T/s.img" "$T/other.img"
toolstack "aio:$T/s.img" w @script /etc/xen/scripts/block-tap; await_state 2
script_add
kill_ctl KILL
kill -STOP "$XS_PID"
start_xen_ctl
script_remove
old=$PID taken=$MINOR
create "aio:$T/other.img"
[ "$MINOR" = "$taken" ] || fail "another minor than $taken: $MINOR"
kill -CONT "$XS_PID"
front_rings
wait_for 5 logged "there is no disk $MINOR of a tapdisk $old" ||
	fail "state $(xs state): $(tap-ctl xen-list)"
logged "connect 1/51792" && fail "another's disk: $(tap-ctl xen-list)"
front 6; wish_end; await_state 6; remove_nodes
await_gone "$B"
destroy "$MINOR"

note "the same while its device waits: neither served nor closed as nobody's"
device 1 51792 vbd3
toolstack "aio:$T/s.img" w @script /etc/xen/scripts/block-tap; await_state 2
script_add
bound() { tap-ctl xen-list --json | jq -e --argjson m "$MINOR" 'any(.[]; .minor == $m)' >/dev/null; }
wait_for 15 bound || fail "$(tap-ctl xen-list)"
script_remove
old=$PID taken=$MINOR
create "aio:$T/other.img"
[ "$MINOR" = "$taken" ] || fail "another minor than $taken: $MINOR"
front_rings
wait_for 5 logged "there is no disk $MINOR of a tapdisk $old" || fail "state $(xs state)"
logged "connect 1/51792" && fail "another's disk: $(tap-ctl xen-list)"
front 6; wish_end; await_state 6; remove_nodes; await_gone "$B"
destroy "$MINOR"
toolstack "aio:$T/s.img" w @script /etc/xen/scripts/block-tap; await_state 2
script_add
wait_for 15 bound || fail "$(tap-ctl xen-list)"
wish_end; await_state 6		# as a guest ends
script_remove
create "aio:$T/other.img"
[ "$MINOR" = "$taken" ] || fail "another minor than $taken: $MINOR"
remove_nodes
sleep 6
[ "$(disk_state "$MINOR")" = running ] || fail "closed: $(tap-ctl list)"
destroy "$MINOR"

connected_anew()	# DEVID FILE: with its tapdisk, and its minor
{
	device 1 "$1"
	truncate -s 4M "$T/$2"
	toolstack "aio:$T/$2"; front_rings; await_state 4; front 4
	pid=$(xs kthread-pid) minor=$(xs blktap-minor)
}
note "a guest's tapdisk stands still as the next daemon comes: it waits"
connected_anew 51824 still.img
kill_ctl KILL
kill -STOP "$pid"
own_said=$(log_count "not answer; asking on")
start_xen_ctl
[ "$(log_count "not answer; asking on")" -gt "$own_said" ] || fail "it was not waited for"
sleep 1.5
[ "$(xs state) $(xs blktap-minor)" = "4 $minor" ] || fail "state $(xs state), minor $(xs blktap-minor)"
kill -CONT "$pid"
served() { tap-ctl xen-list --json | jq -e --argjson p "$pid" 'any(.pid == $p and .served)' >/dev/null; }
wait_for 10 served || fail "$(tap-ctl xen-list)"
state_is 4 || fail "state $(xs state)"
front 6; wish_end; await_state 6; remove_nodes

note "a guest's image is not there for the next daemon: the guest hears of it"
connected_anew 51808 l.img
kill_ctl KILL
kill -KILL "$pid"; wait_for 5 gone "$pid"
mv "$T/l.img" "$T/away.img"
start_xen_ctl --no-restart
await_state 6
front 6; wish_end; remove_nodes
! tap-ctl list | grep -q "minor=$minor\b" || fail "its minor is left: $(tap-ctl list)"

note "and all of it goes"
for d in 51712 51744 51760 51776; do
	device 1 $d
	front 6; wish_end; await_state 6
	remove_nodes
done
xenstore-rm /local/domain/0/backend/tap/1 /local/domain/0/backend/vbd3
nodes_are() { [ "$(nodes)" = "$N" ]; }
wait_for 5 nodes_are || fail "nodes: $(xenstore-ls -f)"
await_disks 0
stop_ctl
