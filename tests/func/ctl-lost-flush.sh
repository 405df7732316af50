#!/bin/bash
# A close whose last flush fails has closed all the same: state, locks and files
# are those of a closed disk, destroy and shutdown leave nothing behind, and who
# asked learns of the loss.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
truncate -s 1M "$T/a.img"
lossy="error:op=flush|aio:$T/a.img"
lost()
{
	refuse 5 "$@"
	[[ $ERR == *"its last flush failed"* && $ERR != *cannot* ]] || fail "$*: $ERR"
}
start_ctl
at_rest=$(fds_at_rest "$CTL_PID")
create "$lossy"
open=$(fds_at_rest "$CTL_PID")
lost within5 tap-ctl close -m 0
[ "$(disk_json 0 | jq -c '[.state, .path, .size]')" = '["closed",null,null]' ] ||
	fail "after close: $(disk_json 0)"
let_go() { [ "$(fds "$CTL_PID")" -lt "$open" ]; }
wait_for 5 let_go || fail "the daemon still holds the file"
refuse 22 tap-ctl close -m 0
tap-ctl open -m 0 -a "aio:$T/a.img" || fail "open after a lossy close"
destroy 0
create "$lossy"
lost within5 tap-ctl destroy -m 0
left() { [ "$(ls -A "$RUN")" = "ctl.sock
lock" ] && [ -z "$(tapdisk_pids)" ] && [ "$(fds "$CTL_PID")" = "$at_rest" ]; }
wait_for 3 left || fail "after destroy: $(ls -A "$RUN"), $(tapdisk_pids), $(ls -l /proc/$CTL_PID/fd) not $at_rest"
# Its lock is gone: another may have it.
create "aio:$T/a.img"
# A pause does not close it: it goes on.
create "error:op=flush|ram:1M"
refuse 5 tap-ctl pause -m 1
[ "$(disk_state 1)" = running ] || fail "after pause: $(disk_json 1)"
# The daemon ends all the same.
pid=$CTL_PID
lost tap-ctl shutdown
[[ $ERR == *"disk 1"* ]] || fail "$ERR"
wait_for 5 gone "$pid" || fail "the daemon stays"
wait "$pid" || fail "the daemon: status $?"
CTL_PID=
rundir_empty && [ -z "$(tapdisk_pids)" ] || fail "left: $(ls -A "$RUN")"
exit 0
