# FULL: as kill-qcow2, another format
# The same on an encrypted qcow2 image: the successor has its key.
# TIMEOUT: 2400
. /lab/cases/kill.inc
luks_image "$T/a.qcow2"
printf 'a passphrase' >"$T/key"
guest
start_ctl
kill_rounds "qcow2:$T/a.qcow2" w --key-file "$T/key"
stop_ctl
