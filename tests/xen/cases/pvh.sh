# FULL: a virtual machine in an emulator is slow
# A guest in hardware's virtual machine (PVH), as far as QEMU has one: its grants and
# event channels are other ones to Xen, and none to us.  Its tapdisk is killed, too.
needs_xen_ring
xl info | grep -q '^virt_caps.* hvm' || skip "Xen finds no virtual machines in this processor"
. /lab/cases/kill.inc
truncate -s 8M "$T/a.img"
start_ctl
GUEST_TYPE=pvh guest p
[ "$(must "cat /sys/hypervisor/guest_type")" = PVH ] || fail "it is $(must "cat /sys/hypervisor/guest_type")"
attach xvdb "aio:$T/a.img"
must "guestio write /dev/xvdb 7 && guestio verify /dev/xvdb 7"
must "guestio load /dev/xvdb 3 4"
MINOR=0
must "load_begin /dev/xvdb 100000 4"
sleep 2
first=$(pid_of_disk)
kill -KILL "$first"
wait_for 20 successor "$first" || fail "no successor: $(tap-ctl list)"
sleep 2
must load_on
must load_end
must calm
detach xvdb
xl destroy p
stop_ctl
