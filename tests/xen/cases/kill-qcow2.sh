# The same on a qcow2 image with a backing file: it allocates all the time.
# SHORT: 4.17
# TIMEOUT: 2400
. /lab/cases/kill.inc
dd if=/dev/urandom of="$T/base.img" bs=64k count=128 2>/dev/null
tap-img create -q -f qcow2 -b "$T/base.img" -F raw "$T/a.qcow2" || fail "create"
kill_rounds "qcow2:$T/a.qcow2"
sound "$T/a.qcow2"
stop_ctl
