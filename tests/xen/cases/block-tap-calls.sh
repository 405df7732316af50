# XEN: 4.20
# The calls of Xen 4.20's unmodified block-tap, one by one, as it makes them.
img=$T/a.img
truncate -s 4M "$img"
start_ctl
out=$(tap-ctl list -t aio -f "$img") || fail "list"
[ -z "$out" ] || fail "list shows what is not open: $out"
path=$(tap-ctl allocate) || fail "allocate"
minor=${path#/run/blktap-control/tapdisk/tapdisk-}
[ "$minor" != "$path" ] || fail "allocate printed $path"
pid=$(tap-ctl spawn) || fail "spawn"
tap-ctl attach -p "$pid" -m "$minor" || fail "attach"
tap-ctl open -p "$pid" -m "$minor" -a "aio:$img" >/dev/null || fail "open"
out=$(tap-ctl list -t aio -f "$img")
[ "$out" = "pid=$pid minor=$minor state=0 args=aio:$img" ] || fail "list: $out"
[ -S "/run/blktap-control/nbd$pid.$minor" ] || fail "no socket of the name that block-tap writes"
tap-ctl destroy -p "$pid" -m "$minor" || fail "destroy"
# an open that fails: its steps back, and the process goes away by itself
minor=$(tap-ctl allocate) && minor=${minor##*-}
pid=$(tap-ctl spawn)
tap-ctl attach -p "$pid" -m "$minor" || fail "attach"
tap-ctl open -p "$pid" -m "$minor" -a "aio:$T/none" && fail "opened what is not there"
tap-ctl detach -p "$pid" -m "$minor" || fail "detach"
tap-ctl free -m "$minor" || fail "free"
wait_for 10 gone "$pid" || fail "the spawned tapdisk stays"
stop_ctl
