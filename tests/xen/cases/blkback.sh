# FULL: judges the tests, not us
# The guest's side of these tests against the kernel's own back end, xen-blkback
# on a loop device: what fails here is no fault of ours.
truncate -s 8M "$T/a.img"
load loop || fail "no loop"
load xen_blkback || fail "no xen-blkback"
guest
losetup /dev/loop0 "$T/a.img" || fail "losetup"
xl block-attach "$DOM" phy:/dev/loop0,xvdb,w || fail "block-attach"
must "disk xvdb"
must "guestio write /dev/xvdb 7"
must "guestio verify /dev/xvdb 7"
in_guest "guestio verify /dev/xvdb 8" && fail "guestio takes wrong data for right"
must "guestio load /dev/xvdb 3 4"
xl block-detach "$DOM" xvdb || fail "block-detach"
must "nodisk xvdb"
losetup -d /dev/loop0
rmmod xen_blkback || fail "xen-blkback stays"
