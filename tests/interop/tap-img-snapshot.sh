#!/bin/bash
# Snapshots that tap-img makes, goes back to and deletes inside qcow2 images, mixed
# with qemu-img's own and with writes by qemu-io: after every step qemu-img finds the
# image clean, and the disk and every snapshot hold what they should.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires qemu-img qemu-io python3
cd "$T" || exit 1
export PYTHONDONTWRITEBYTECODE=1	# not into the tree
seed
RANDOM=$SEED

check()
{
	qemu-img check -q -f qcow2 x.qcow2 || fail "$opts: after $1: $(qemu-img check -f qcow2 x.qcow2 2>&1 | head)"
	qemu-img compare -q -f raw -F qcow2 now.raw x.qcow2 || fail "$opts: after $1: the disk is another"
	for s in snap.*.raw; do
		[ -e "$s" ] || continue
		n=${s#snap.}
		n=${n%.raw}
		rm -f y.raw
		qemu-img convert -f qcow2 -O raw -l "$n" x.qcow2 y.raw || fail "$opts: after $1: $n"
		cmp "$s" y.raw || fail "$opts: after $1: snapshot $n is another"
	done
	[ "$(tap-img snapshot -l x.qcow2 | tail -n +3 | awk '{print $2}' | sort)" = \
		"$(ls | sed -n 's/^snap\.\(.*\)\.raw$/\1/p' | sort)" ] ||
		fail "$opts: after $1: list: $(tap-img snapshot -l x.qcow2)"
}

write()
{
	local p=$((RANDOM % 255 + 1)) at=$((RANDOM % 4000))k len=$((RANDOM % 90 + 1))k
	qemu-io -f qcow2 -c "write -q -P $p $at $len" x.qcow2 || fail "qemu-io"
	qemu-io -f raw -c "write -q -P $p $at $len" now.raw || fail "qemu-io"
}

for opts in cluster_size=64k cluster_size=512 compat=0.10,cluster_size=4k \
		extended_l2=on,cluster_size=16k refcount_bits=2,cluster_size=4k \
		refcount_bits=64,cluster_size=1k; do
	rm -f x.qcow2 snap.*.raw now.raw
	qemu-img create -q -f qcow2 -o $opts x.qcow2 4500k || fail create
	packed=-c	# these share clusters: too many references for two bits
	case $opts in refcount_bits=2*) packed= ;; esac
	qemu-io -f qcow2 -c "write -q $packed -P 9 1M 128k" x.qcow2 >/dev/null ||
		fail qemu-io
	truncate -s 4500k now.raw
	qemu-io -f raw -c 'write -q -P 9 1M 128k' now.raw || fail qemu-io
	write
	case $opts in refcount_bits=2*) max=1 ;; *) max=4 ;; esac
	for ((i = 0; i < 12 * ${IMAGE_ROUNDS:-1}; i++)); do
		set -- snap.*.raw
		[ -e "$1" ] || set --
		prog=tap-img
		[ $((RANDOM % 4)) != 0 ] || prog=qemu-img
		n=$([ $# = 0 ] || echo "${*:$((RANDOM % $# + 1)):1}")
		n=${n#snap.}
		n=${n%.raw}
		case $((RANDOM % 3)) in
		0) [ $# -lt $max ] || continue
			$prog snapshot -c s$i x.qcow2 || fail "$opts: $prog -c"
			cp now.raw snap.s$i.raw
			check "$prog -c s$i" ;;
		1) [ $# -gt 0 ] || continue
			$prog snapshot -a "$n" x.qcow2 || fail "$opts: $prog -a"
			cp "snap.$n.raw" now.raw
			check "$prog -a $n" ;;
		2) [ $# -gt 0 ] || continue
			$prog snapshot -d "$n" x.qcow2 || fail "$opts: $prog -d"
			rm "snap.$n.raw"
			check "$prog -d $n" ;;
		esac
		write
		write
	done
done

# The list is qemu-img's, to the letter.
qemu-img snapshot -c 'a b' x.qcow2
qemu-img snapshot -l x.qcow2 >q
tap-img snapshot x.qcow2 | cmp - q || fail "list: $(tap-img snapshot x.qcow2)"

# A smaller disk comes back with its size; what cannot be is refused.
qemu-img create -q -f qcow2 g.qcow2 1M
tap-img snapshot -c small g.qcow2 || fail "-c"
qemu-img create -q -f raw r.img 1M
refuse 1 tap-img snapshot -c x r.img
refuse 1 tap-img snapshot -a nosuch g.qcow2
refuse 1 tap-img snapshot -d nosuch g.qcow2
refuse 1 tap-img snapshot -c '' g.qcow2
refuse 1 tap-img snapshot -c a -d b g.qcow2
qemu-img create -q -f qcow2 -o refcount_bits=1 o.qcow2 1M
qemu-io -f qcow2 -c 'write -q 0 64k' o.qcow2
refuse 1 tap-img snapshot -c s o.qcow2
qemu-img check -q o.qcow2 || fail "a refused snapshot changed the image"

# An entry that points behind the end of the file, to where the next table is going to be:
# the count of that is not the entry's to take.
qemu-img create -q -f qcow2 b.qcow2 1M
qemu-io -f qcow2 -c 'write -q -P 1 0 64k' b.qcow2
qemu-img snapshot -c s b.qcow2
qemu-io -f qcow2 -c 'write -q -P 2 0 128k' b.qcow2
PYTHONPATH=$TOP/tests/lib python3 - b.qcow2 <<'END' || fail "no entry to damage"
import sys
from qcow2damage import Image, MASK, plain
im = Image(sys.argv[1])
for c in range(im.clusters):
    if not im.ref(c):
        im.ref(c, 1)        # nothing is free before the end
at, v = im.l2_entries(plain)[-1]
im.put(at, v & ~MASK | im.clusters * im.cs)
END
cp b.qcow2 was.qcow2
refuse 1 tap-img snapshot -a s b.qcow2
cmp b.qcow2 was.qcow2 || fail "a refused snapshot -a changed the image"

# An L1 table that names an L2 table at no cluster's start: it is not read, whatever is to be
# done.
qemu-img create -q -f qcow2 l.qcow2 1G
qemu-img snapshot -c s l.qcow2
qemu-io -f qcow2 -c 'write -q -P 1 0 64k' -c 'write -q -P 2 600M 64k' l.qcow2
PYTHONPATH=$TOP/tests/lib python3 - l.qcow2 <<'END' || fail "no L1 entry to damage"
import sys
from qcow2damage import Image
im = Image(sys.argv[1])
at, v = im.l1_entries()[-1]
im.put(at, v - 512)
END
cp l.qcow2 was.qcow2
for how in '-c t' '-a s' '-d s'; do
	# shellcheck disable=SC2086
	refuse 1 tap-img snapshot $how l.qcow2
	cmp l.qcow2 was.qcow2 || fail "a refused snapshot $how changed the image"
done
