# FULL: as kill-qcow2, another format
# The same on a sparse vmdk image.
# TIMEOUT: 2400
. /lab/cases/kill.inc
tap-img create -q -f vmdk "$T/a.vmdk" 8M || fail "create"
kill_rounds "vmdk:$T/a.vmdk"
sound "$T/a.vmdk"
stop_ctl
