#!/bin/bash
# TIMEOUT: 60
# Images of QEMU that name other files: those beside the image are opened, those
# elsewhere only if they or their folder were given; and a new daemon holds all of
# them too.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq qemu-img
requires_root "duplicates of adopted disks' files"
I=$T/img B=$T/base
mkdir "$I" "$B"
truncate -s 4M "$T/secret"
make() { qemu-img create -q -f vmdk "$@" 4M || fail "qemu-img create $*"; }
make -o subformat=monolithicFlat "$I/flat.vmdk"
make -o subformat=monolithicFlat "$I/bad.vmdk"
sed -i 's/"bad-flat.vmdk"/"..\/secret"/' "$I/bad.vmdk"
make "$B/base.vmdk"
make -F vmdk -b "$B/base.vmdk" "$I/over.vmdk"

start_ctl
create "vmdk:$I/flat.vmdk"
refuse 13 tap-ctl create -a "vmdk:$I/bad.vmdk"
[[ $ERR == *"/../secret: "*"only in its folder" ]] || fail "$ERR"
refuse 13 tap-ctl create -R -a "vmdk:$I/bad.vmdk"
[[ $ERR == *"/../secret: "*--backing*--image-dir* ]] || fail "$ERR"
refuse 13 tap-ctl create -a "vmdk:$I/over.vmdk"
[[ $ERR == *"$B/base.vmdk: "*--backing*--image-dir* ]] || fail "$ERR"
create "vmdk:$I/over.vmdk" --backing "vmdk:$B/base.vmdk"

held() { readlink /proc/"$CTL_PID"/fd/* | grep -c '\.vmdk$'; }
[ "$(held)" = 4 ] || fail "$(held) files are held"
kill_ctl KILL
start_ctl --image-dir "$B"
four() { [ "$(held)" = 4 ]; }
wait_for 5 four || fail "$(held) files are held by a new daemon"
destroy 1
create "vmdk:$I/over.vmdk"
stop_ctl
