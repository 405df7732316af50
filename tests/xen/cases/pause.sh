# The image is taken away and given back while a guest writes and verifies; then
# the daemon is killed and another one started, and the guest sees none of it.
# SHORT: 4.17
needs_xen_ring
truncate -s 8M "$T/a.img"
guest
start_ctl
attach xvdb "aio:$T/a.img"
must "load_begin /dev/xvdb 100000 4"
tap-ctl pause -m 0 || fail "pause"
must load_on
tap-ctl unpause -m 0 || fail "unpause"
sleep 1
xl pause "$DOM" && sleep 1 && xl unpause "$DOM" || fail "xl pause, unpause"
pid=$(ctl_pid)
kill -KILL "$pid"
wait_for 10 gone "$pid" || fail "the daemon stays"
sleep 1
start_ctl
taken_up() { [ "$(tap-ctl list | wc -l)" = 1 ]; }
wait_for 10 taken_up || fail "the new daemon has: $(tap-ctl list)"
sleep 1
must load_on
must load_end
taken_up || fail "the new daemon has: $(tap-ctl list)"
detach xvdb
[ -z "$(backends)" ] || fail "left: $(backends)"
stop_ctl
