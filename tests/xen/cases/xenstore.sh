# backend/tap by tap-ctl, to a running guest: verified I/O, online resize, the
# daemon restarted under load, detach; no node but folders and no process is left.
# SHORT: 4.17
[ "$(tapdisk --features | grep -c '^xen')" = 1 ] || skip "built without Xen"
truncate -s 8M "$T/a.img" "$T/b.img"
start_ctl
guest
before=$(xenstore-ls -f | wc -l)
attach xvdb "aio:$T/a.img"
must "guestio write /dev/xvdb 7"
must "guestio verify /dev/xvdb 7"
B=/local/domain/0/backend/tap/$DOM/$(devid xvdb)
pid=$(xenstore-read $B/kthread-pid)
# (tapdisk writes them once a second)
written() { hexdump -s 64 -n 8 -e '2/4 "%u "' "/dev/shm/td3-$pid/vbd-$DOM-$(devid xvdb)"; }
all_counted() { written | { read -r low high; [ "$low" = 16384 ] && [ "$high" = 0 ]; }; }
wait_for 10 all_counted || fail "sectors written, for xentop: $(written)"

truncate -s 12M "$T/a.img"
tap-ctl resize -m 0 || fail "resize"
GUEST_SECONDS=30
size_is() { [ "$(in_guest "cat /sys/block/xvdb/size" | tail -n 1)" = "$1" ]; }
wait_for 20 size_is 24576 || fail "the guest does not see the new size"

# Under load: end the daemon, kill the next, and start a third.
must "load_begin /dev/xvdb 100000 4"
for s in TERM KILL; do
	sleep 1
	pid=$(ctl_pid)
	kill -$s "$pid"
	wait_for 10 gone "$pid" || fail "the daemon stays"
	start_ctl
done
taken_up() { [ "$(tap-ctl xen-list | grep -c 'backend=connected frontend=connected')" = 1 ]; }
wait_for 20 taken_up || fail "not taken over: $(tap-ctl xen-list)"
must load_end
detach xvdb
few_nodes() { [ "$(xenstore-ls -f | wc -l)" -le $((before + 2)) ]; }
wait_for 10 few_nodes || fail "nodes: $(xenstore-ls -f | grep -E 'tap|vbd')"
[ -z "$(ls -d /dev/shm/td3-* 2>/dev/null)" ] || fail "left: $(ls /dev/shm)"

# Read-only; and a guest whose kernel dies, under a load, takes its disks with it.
attach xvdc "aio:$T/b.img" r
must "guestio refuse /dev/xvdc"
attach xvdb "aio:$T/a.img"
must "load_begin /dev/xvdb 100000 4"
send "echo c >/proc/sysrq-trigger"
wait_for 60 no_guest "$G" || fail "it does not die: $(xl list)"
no_disk() { [ -z "$(tap-ctl list)" ]; }
wait_for 20 no_disk || fail "a disk stays: $(tap-ctl list)"
none() { [ -z "$(backends)" ]; }
wait_for 20 none || fail "nodes stay: $(backends)"
stop_ctl
