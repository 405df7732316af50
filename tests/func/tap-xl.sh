#!/bin/bash
# tap-xl rewrites the disks of a configuration, as users have written them for
# twenty years, and nothing else of it; it finds the kind of back end by xl, and
# keeps xl's words in their order.
set -u
. "$(dirname "$0")/../lib/test.sh"
cd "$T" || exit 1

# disk LINE WANT: what `tap-xl --backend vbd config' makes of one disk; WANT begins
# after what all of them have.
disk()
{
	local out
	printf 'disk = [ "%s" ]\n' "$1" >one.cfg
	out=$(tap-xl --backend vbd config one.cfg) || fail "config of $1"
	out=${out#'disk = [ "'}
	[ "${out%'" ]'}" = "$2" ] || fail "$1: $out"
}
b=backendtype=phy,script=block-blktap
disk tap:aio:/a.img,xvda,w "format=raw,vdev=xvda,access=rw,$b,target=aio:/a.img"
disk tap:tapdisk:aio:/a,sda1,r "format=raw,vdev=sda1,access=ro,$b,target=aio:/a"
disk tap2:qcow2:/a:b.q,xvdb "format=raw,vdev=xvdb,access=rw,$b,target=qcow2:/a:b.q"
disk tap:vmdk:/v,xvdc,w "format=raw,vdev=xvdc,access=rw,$b,target=vmdk:/v"
disk tap:qcow:/q,xvdc,w "format=raw,vdev=xvdc,access=rw,$b,target=qcow:/q"
disk file:/c.img,hda,w "format=raw,vdev=hda,access=rw,$b,target=file:/c.img"
disk phy:vg/lv,xvda,w "format=raw,vdev=xvda,access=rw,$b,target=phy:/dev/vg/lv"
disk phy:/dev/sdb,xvda,w "format=raw,vdev=xvda,access=rw,$b,target=phy:/dev/sdb"
disk tap:cdrom:/c.iso,hdc,r "format=raw,vdev=hdc,access=ro,devtype=cdrom,$b,target=aio:/c.iso"
disk file:/c.iso,hdc:cdrom,r "format=raw,vdev=hdc,access=ro,devtype=cdrom,$b,target=file:/c.iso"
disk /a.img,raw,xvda,rw "format=raw,vdev=xvda,access=rw,$b,target=aio:/a.img"
disk /a.img,,xvda "format=raw,vdev=xvda,access=rw,$b,target=aio:/a.img"
disk /b,qcow2,xvdb,ro,discard "format=raw,vdev=xvdb,access=ro,$b,discard,target=qcow2:/b"
disk 'vdev=xvda, format=qcow2, access=rw, target=/a, b.q' \
	"format=raw,vdev=xvda,access=rw,$b,target=qcow2:/a, b.q"
disk /b,qcow2,xvdb,w,key-file=/k,backing=aio:/x \
	"format=raw,vdev=xvdb,access=rw,$b,target=key-file=/k,backing=aio:/x,qcow2:/b"
# Those that are another's stay.
for d in '' ,hdc,cdrom,r /a,raw,xvda,w,backendtype=qdisk /a,raw,xvda,w,script=block-iscsi \
		/a,raw,xvda,w,backend=store; do
	disk "$d" "$d"
done
printf 'disk = [ "tap:aio:/a.img,xvda,w" ]\n' >one.cfg
tap-xl --backend tap config one.cfg | grep -q 'backendtype=tap,script=block-blktap' ||
	fail "--backend tap"
for d in 'vhd:/a,xvda,w' '/a,vhd,xvda,w' 'tap:aio:/a' 'a.img,xvda,w' '/a,xvda,maybe'; do
	printf 'disk = [ "%s" ]\n' "$d" >bad.cfg
	refuse 1 tap-xl --backend vbd config bad.cfg
done

# A whole file: comments, quotes, lists and other words that look like disks.
cat >all.cfg <<'X'
# disk = [ 'tap:aio:/no,xvda,w' ] isn't one
name = "g#1"; extra = 'disk=[ "tap:aio:/no" ]'
disk = [ 'tap:aio:/a,xvda,w', # and 'a comment
	"phy:/b,xvdb,r" ]
vif = [ 'tap:x,y,z', ]
disk_other = [ 'tap:aio:/no,xvda,w' ]
disk += [ 'file:/c,xvdc,w', ]
X
tap-xl --backend vbd config all.cfg >all.out || fail "config"
sed -e "s#'tap:aio:/a,xvda,w'#'format=raw,vdev=xvda,access=rw,$b,target=aio:/a'#" \
	-e "s#\"phy:/b,xvdb,r\"#\"format=raw,vdev=xvdb,access=ro,$b,target=phy:/b\"#" \
	-e "s#'file:/c,xvdc,w'#'format=raw,vdev=xvdc,access=rw,$b,target=file:/c'#" \
	all.cfg | diff - all.out || fail "more or less than the disks has changed"

# An xl that says what it is called with.
mkdir bin
cat >bin/xl <<'X'
#!/bin/sh
case $1 in
info) printf 'xen_major              : 4\nxen_minor              : %s\n' "$XL_MINOR" ;;
*)
	for a; do
		case $a in
		*tap-xl.*) cp "${a#*=}" "$T/given.cfg"; a=FILE ;;
		esac
		printf '%s|' "$a"
	done
	exit 5 ;;
esac
X
chmod +x bin/xl
PATH=$T/bin:$PATH
export T XL_MINOR=18
out=$(tap-xl create -q all.cfg -p 'memory=64')
[ $? = 5 ] || fail "not xl's status"
[ "$out" = 'create|-q|FILE|-p|memory=64|' ] || fail "xl was called: $out"
cmp -s given.cfg all.out || fail "xl has not been given the rewritten file"
out=$(tap-xl create -f all.cfg)
[ "$out" = 'create|-f|FILE|' ] || fail "xl was called: $out"
XL_MINOR=20
out=$(tap-xl block-attach g 'tap:aio:/a b,xvdb,w')
[ "$out" = 'block-attach|g|format=raw,vdev=xvdb,access=rw,backendtype=tap,script=block-blktap,target=aio:/a b|' ] ||
	fail "xl was called: $out"
out=$(tap-xl list -v 'a b')
[ "$out" = 'list|-v|a b|' ] || fail "xl was called: $out"
printf 'disk = [ "nonsense" ]\n' >bad.cfg
refuse 1 tap-xl create bad.cfg
refuse 1 tap-xl create none.cfg
refuse 2 tap-xl --backend other create all.cfg
[ -z "$(find "${TMPDIR:-/tmp}" -maxdepth 1 -name 'tap-xl.*')" ] || fail "files are left"
