#!/bin/bash
# tap-img and qemu-img on qcow2, qcow and vmdk: what one makes or converts the other
# reads and finds clean; info, map and measure say the same; a rebase and a resize
# leave the disk what it was.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires qemu-img qemu-io jq
cd "$T" || exit 1
seed
RANDOM=$SEED

# A disk of all kinds of clusters: random, text, zeroes, holes, an odd end.
truncate -s 15000064 a.raw
for i in 0 3 17 40 99 150 226; do
	dd if=/dev/urandom of=a.raw bs=64k seek=$i count=1 conv=notrunc status=none
done
yes 'some text that packs well' | head -c 1500k |
	dd of=a.raw bs=4k seek=$((RANDOM % 2000)) conv=notrunc status=none
qemu-io -f raw -c 'write -q -P 7 14600k 600' -c 'write -q -P 0 9M 300k' a.raw || fail qemu-io

# good FORMAT FILE: holds a.raw, and qemu-img finds no fault
good()
{
	qemu-img compare -q -f raw -F "$1" a.raw "$2" || fail "$what: other contents"
	[ "$1" != qcow2 ] || qemu-img check -q -f qcow2 "$2" ||
		fail "$what: $(qemu-img check -f qcow2 "$2" 2>&1 | head -n 5)"
	tap-img convert -f "$1" "$2" b.raw || fail "$what: back"
	cmp a.raw b.raw || fail "$what: not the same when it comes back"
	tap-img compare -q -f "$1" -F raw "$2" a.raw || fail "$what: tap-img compare"
}

for o in cluster_size=512 cluster_size=4k "" cluster_size=2M compat=0.10 \
		extended_l2=on,cluster_size=16k refcount_bits=1,cluster_size=4k \
		refcount_bits=64 compression_type=zstd lazy_refcounts=on \
		preallocation=metadata preallocation=falloc,extended_l2=on \
		preallocation=full data_file=d.raw data_file=d.raw,data_file_raw=on; do
	for how in "" "-c" "-W -m 16 -S 64k"; do
		case $o$how in data_file*-c|prealloc*-c) continue ;; esac
		what="convert -O qcow2 -o $o $how"
		rm -f x d.raw
		# shellcheck disable=SC2086
		tap-img convert -f raw -O qcow2 ${o:+-o $o} $how a.raw x || fail "$what"
		good qcow2 x
		[ "$how" != -c ] || qemu-img check --output=json -f qcow2 x |
			jq -e '."compressed-clusters" > 0' >/dev/null ||
			fail "$what: nothing was packed"
	done
done
# Sources that meet within a cluster: that one is plain, the others are packed.
head -c 100K a.raw >one.raw
yes 'other text' | head -c $(((1 << 20) + 512)) >two.raw
for o in qcow2: qcow2:-ocluster_size=4k qcow2:-oextended_l2=on qcow:; do
	what="convert -c of two, $o"
	# shellcheck disable=SC2086
	qemu-img convert -c -f raw -O "${o%%:*}" ${o#*:} one.raw two.raw q.img
	# shellcheck disable=SC2086
	tap-img convert -c -f raw -O "${o%%:*}" ${o#*:} one.raw two.raw x.img || fail "$what"
	qemu-img compare -q -f "${o%%:*}" -F "${o%%:*}" q.img x.img || fail "$what: other contents"
	tap-img check -q -f "${o%%:*}" x.img || fail "$what: check"
	[ "$(stat -c %s x.img)" -lt 900000 ] || fail "$what: too large"
	case $o in qcow2*) ;; *) continue ;; esac
	qemu-img check -q -f qcow2 x.img || fail "$what: qemu-img check"
	[ "$(qemu-img check --output=json -f qcow2 x.img | jq '."compressed-clusters"')" -ge 16 ] ||
		fail "$what: not packed"
done

for o in qcow:: qcow::-c vmdk:: vmdk:subformat=monolithicFlat: \
		vmdk:subformat=twoGbMaxExtentSparse: vmdk:zeroed_grain=on:; do
	IFS=: read -r f opt how <<<"$o"
	what="convert -O $f -o $opt $how"
	rm -f x*
	tap-img convert -f raw -O "$f" ${opt:+-o "$opt"} ${how:+"$how"} a.raw x.img ||
		fail "$what"
	good "$f" x.img
	tap-img check -q -f "$f" x.img || fail "$what: check"
	case $opt in *twoGb*) continue ;; esac
	own=.				# of several files, we tell of the first
	case $opt in *Flat*) own='del(."actual-size")' ;; esac
	qemu-img info --output=json -f "$f" x.img | jq -S "$own" >q
	tap-img info --output=json -f "$f" x.img | jq -S "$own" >t
	cmp q t || fail "$what: info: $(diff q t)"
done
# A grain behind the end of the file.
tap-img convert -f raw -O vmdk a.raw x.img
truncate -s $(($(stat -c %s x.img) - 200000)) x.img
tap-img check -q -f vmdk x.img 2>/dev/null
[ $? = 2 ] || fail "a vmdk file that was cut passes the check"

# Encrypted: QEMU opens what we made, and we what QEMU made; never without the key.
printf secret >key
printf other >wrong
opts="--object secret,id=s,file=key"
for enc in qcow2:luks qcow2:aes qcow:aes; do
	f=${enc%:*} e=${enc#*:}
	what="encrypted, $enc"
	iter=
	[ $e != luks ] || iter=,encrypt.iter-time=10
	tap-img convert -f raw -O $f -o encrypt.format=$e$iter --key-file key a.raw x.img ||
		fail "$what"
	tap-img convert -f $f --key-fd 5 x.img b.raw 5<key || fail "$what: back"
	cmp a.raw b.raw || fail "$what: other contents"
	qemu-img info --output=json x.img | jq -S . >q
	tap-img info --output=json x.img | jq -S . | cmp - q ||
		fail "$what: info: $(tap-img info x.img)"
	qemu-img info x.img >q
	tap-img info x.img | cmp - q || fail "$what: info: $(tap-img info x.img | diff q -)"
	spec="driver=$f,encrypt.format=$e,encrypt.key-secret=s,file.filename"
	# shellcheck disable=SC2086
	qemu-img compare -q $opts --image-opts "$spec=x.img" driver=raw,file.filename=a.raw ||
		fail "$what: qemu-img reads otherwise"
	# shellcheck disable=SC2086
	qemu_img_luks create -q $opts -f $f -o encrypt.format=$e,encrypt.key-secret=s$iter \
		q.img "$(stat -c %s a.raw)" || fail "$what: qemu-img create"
	tap-img convert -n -f raw -O $f --key-file key a.raw q.img || fail "$what: into qemu's"
	# shellcheck disable=SC2086
	qemu-img compare -q $opts --image-opts "$spec=q.img" driver=raw,file.filename=a.raw ||
		fail "$what: qemu-img reads its own otherwise"
	refuse 1 tap-img convert -f $f x.img b.raw
	[ $e != luks ] || refuse 1 tap-img convert -f $f --key-file wrong x.img b.raw
	[ $f = qcow2 ] || continue
	rm -f y.img
	refuse 1 tap-img create -q -f $f -o encrypt.format=$e y.img 1M
	[ ! -e y.img ] || fail "$what: an image without a key was left"
done

# What qemu-img made, with the format found by its first bytes.
for o in qcow2:-c qcow2:-ocompression_type=zstd,cluster_size=128k qcow: vmdk: \
		vmdk:-osubformat=streamOptimized; do
	what="from qemu-img, $o"
	# (qcow: qemu-img ends with 1 though all is well)
	# shellcheck disable=SC2086
	qemu-img convert -f raw -O "${o%%:*}" ${o#*:} a.raw q.img
	tap-img convert -q q.img b.raw || fail "$what"
	cmp a.raw b.raw || fail "$what: other contents"
done

# A chain of three, and what is said of it.
qemu-img convert -f raw -O qcow2 a.raw base.qcow2
tap-img create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2 || fail "create mid"
tap-img create -q -f qcow2 -o cluster_size=4k -b mid.qcow2 -F qcow2 top.qcow2 18M ||
	fail "create top"
qemu-io -f qcow2 -c 'write -q -P 5 1M 200k' -c 'write -q -z 64k 128k' mid.qcow2
qemu-io -f qcow2 -c 'write -q -P 6 1100k 8k' -c 'write -q -z 4M 64k' \
	-c 'write -q -P 8 17M 8k' top.qcow2
for f in base mid top; do
	qemu-img check -q $f.qcow2 || fail "$f is not clean"
	qemu-img info --output=json $f.qcow2 | jq -S . >q
	tap-img info --output=json $f.qcow2 | jq -S . >t
	cmp q t || fail "info $f: $(diff q t)"
	qemu-img info $f.qcow2 >q
	tap-img info $f.qcow2 | cmp - q || fail "info $f: $(tap-img info $f.qcow2 | diff q -)"
	qemu-img map --output=json $f.qcow2 | jq -c '.[]' >q
	tap-img map --output=json $f.qcow2 | jq -c '.[]' >t
	cmp q t || fail "map $f: $(diff q t)"
	qemu-img map $f.qcow2 >q
	tap-img map $f.qcow2 | cmp - q || fail "map $f: $(tap-img map $f.qcow2 | diff q -)"
done
qemu-img info --backing-chain --output=json top.qcow2 | jq -S . >q
tap-img info --backing-chain --output=json top.qcow2 | jq -S . | cmp - q ||
	fail "info --backing-chain"
for o in "" cluster_size=4k compat=0.10,cluster_size=2M extended_l2=on; do
	for of in "--size 10G" "-f raw a.raw" "-f qcow2 mid.qcow2"; do
		# shellcheck disable=SC2086
		q=$(qemu-img measure --output=json -O qcow2 ${o:+-o $o} $of | jq -S .)
		# shellcheck disable=SC2086
		t=$(tap-img measure --output=json -O qcow2 ${o:+-o $o} $of | jq -S .)
		[ "$q" = "$t" ] || fail "measure $o $of: $q / $t"
	done
done

# Files beside an image, and below one that does not say of what format that is.
qemu-img create -q -f qcow2 -o data_file=d.raw d.qcow2 4M
qemu-img convert -f raw -O vmdk a.raw s.vmdk
qemu-img create -q -f vmdk -b s.vmdk -F vmdk c.vmdk
qemu-img create -q -f qcow -b top.qcow2 -F qcow2 k.qcow
qemu-img create -q -f qcow -b a.raw -F raw l.qcow
for f in d.qcow2 c.vmdk k.qcow l.qcow; do
	qemu-io -f ${f#*.} -c "write -q -P 7 ${#f}00k 64k" $f || fail qemu-io
	for p in $f "$PWD/$f" "../${PWD##*/}/$f"; do
		# QEMU looks for a data file by its name as it is.
		[ "$f" = "$p" ] || [ $f != d.qcow2 ] || continue
		qemu-img map "$p" >q || fail "qemu-img map $p"
		tap-img map "$p" >t 2>err || fail "map $p: $(cat err)"
		cmp q t || fail "map $p: $(diff q t)"
	done
	qemu-img convert -f ${f#*.} -O raw $f q.raw || fail "qemu-img convert $f"
	tap-img convert -f ${f#*.} $f b.raw 2>err || fail "convert $f: $(cat err)"
	cmp q.raw b.raw || fail "convert $f: other contents"
done
grep -q 'does not say of what format a.raw is: taken as raw' err || fail "l.qcow: $(cat err)"
tap-img check -q -f qcow k.qcow 2>err || fail "check k.qcow: $(cat err)"

# Bitmaps are shown, with what they are worth.
qemu-img bitmap --add -g 64k d.qcow2 one
qemu-img bitmap --add --disable -g 4k d.qcow2 'another one'
for n in 1 2; do
	qemu-img info --output=json d.qcow2 | jq -S 'del(."actual-size")' >q
	tap-img info --output=json d.qcow2 | jq -S 'del(."actual-size")' | cmp - q ||
		fail "info d.qcow2: $(tap-img info d.qcow2)"
	qemu-img info d.qcow2 >q
	tap-img info d.qcow2 | cmp - q || fail "info: $(tap-img info d.qcow2 | diff q -)"
	truncate -s 4M z.raw
	tap-img convert -q -n -f raw -O qcow2 z.raw d.qcow2 2>err || fail "$(cat err)"
	grep -q 'inconsistent' err || [ $n = 2 ] || fail "no word of the bitmap: $(cat err)"
done

# Rebase: the disk stays, whatever is below it.
qemu-img convert -f qcow2 -O raw top.qcow2 want.raw
tap-img create -q -f qcow2 other.qcow2 9M
qemu-io -f qcow2 -c 'write -q -P 9 500k 3M' other.qcow2
holds()
{
	qemu-img check -q top.qcow2 || fail "rebase on '$1': $(qemu-img check top.qcow2 2>&1 | head)"
	qemu-img compare -q -f raw -F qcow2 want.raw top.qcow2 || fail "rebase on '$1': another disk"
	[ "$(tap-img info --output=json top.qcow2 | jq -r '."backing-filename" // ""')" = "$1" ] ||
		fail "rebase on '$1': $(tap-img info top.qcow2)"
}
for b in base.qcow2 other.qcow2 '' other.qcow2 mid.qcow2; do
	tap-img rebase -b "$b" ${b:+-F qcow2} top.qcow2 || fail "rebase -b $b"
	holds "$b"
done
cp mid.qcow2 moved.qcow2
tap-img rebase -u -b moved.qcow2 -F qcow2 top.qcow2 || fail "rebase -u"
holds moved.qcow2
# The old backing file ends, or there is none, where the new one has something: at no
# cluster's border, and where an image has no word for zeroes.
qemu-img create -q -f raw 8m.raw 8M
qemu-io -f raw -c 'write -q -P 0x22 0 8M' 8m.raw
for old in 1000K 1M ''; do
	[ -z "$old" ] || head -c "$old" a.raw >old.raw
	for o in "" cluster_size=512 cluster_size=2M compat=0.10 extended_l2=on; do
		qemu-img create -q -f qcow2 ${o:+-o $o} ${old:+-b old.raw -F raw} e.qcow2 7M
		qemu-io -f qcow2 -c 'write -q -P 5 3M 8k' e.qcow2 || fail qemu-io
		qemu-img convert -f qcow2 -O raw e.qcow2 e.raw
		tap-img rebase -f qcow2 -b 8m.raw -F raw e.qcow2 || fail "rebase, old $old, $o"
		qemu-img compare -q -f raw -F qcow2 e.raw e.qcow2 ||
			fail "rebase, old '$old', '$o': another disk"
		qemu-img check -q e.qcow2 || fail "rebase, old '$old', '$o': check"
	done
done
refuse 1 tap-img rebase -b mid.qcow2 top.qcow2			# which format?
refuse 1 tap-img rebase -b nosuch.qcow2 -F qcow2 top.qcow2
holds moved.qcow2

# Resize, and no guess.
refuse 1 tap-img resize top.qcow2 +1M
tap-img resize -q -f qcow2 top.qcow2 20M || fail "resize"
[ "$(qemu-img info --output=json top.qcow2 | jq '."virtual-size"')" = $((20 << 20)) ] ||
	fail "resize: $(qemu-img info top.qcow2)"
truncate -s 20M want.raw
holds moved.qcow2
refuse 1 tap-img resize -f qcow2 top.qcow2 10M
# A refusal has one line, with the format's reason.
qemu-img create -q -f qcow2 -o cluster_size=512 tiny.qcow2 1M
refuse 1 tap-img resize -f qcow2 tiny.qcow2 1P
case $ERR in *'larger clusters'*) ;; *) fail "resize: $ERR" ;; esac
tap-img resize -q -f qcow2 --shrink top.qcow2 10M || fail "resize --shrink"
truncate -s 10M want.raw
holds moved.qcow2

# A copy that holds only what its backing file does not.
tap-img convert -f qcow2 -O qcow2 -B mid.qcow2 -F qcow2 top.qcow2 c.qcow2 || fail "convert -B"
qemu-img check -q c.qcow2 || fail "convert -B: check"
qemu-img compare -q c.qcow2 top.qcow2 || fail "convert -B: another disk"
[ "$(stat -c %s c.qcow2)" -lt 4000000 ] || fail "convert -B copied all: $(stat -c %s c.qcow2)"

# No image is made on itself, by whatever name: nothing is lost.
ln c.qcow2 hard.qcow2
ln -s c.qcow2 soft.qcow2
sha256sum c.qcow2 >sum
for b in c.qcow2 "$PWD/c.qcow2" hard.qcow2 soft.qcow2; do
	for u in "" -u; do
		refuse 1 tap-img create -q -f qcow2 ${u:+"$u"} -b "$b" -F qcow2 c.qcow2 11M
	done
	refuse 1 tap-img convert -f qcow2 -O qcow2 -B "$b" -F qcow2 top.qcow2 c.qcow2
	case $ERR in *'on itself'*) ;; *) fail "on itself: $ERR" ;; esac
	sha256sum --status -c sum || fail "an image was made on itself, by the name $b"
done

# Two bad L2 entries, at 640 KiB and 6.875 MiB: what is between them is salvaged, all.
random_file s.raw 5
truncate -s 16M s.raw
head -c 16M s.raw >full.raw
dd if=/dev/zero of=full.raw bs=64K seek=27 count=64 conv=notrunc status=none
dd if=s.raw of=full.raw bs=64K seek=91 count=10 conv=notrunc status=none
qemu-img convert -f raw -O qcow2 full.raw two.qcow2 || fail "qemu-img convert"
qemu-io -f qcow2 -c 'write -q -P 5 640k 64k' -c 'write -q -P 5 7040k 128k' two.qcow2 || fail qemu-io
python3 - two.qcow2 <<-'END' || fail "no L2 table"
	import struct, sys
	f = open(sys.argv[1], "r+b")
	f.seek(40)
	f.seek(struct.unpack(">Q", f.read(8))[0])
	l2 = struct.unpack(">Q", f.read(8))[0] & (1 << 56) - 512
	for n in 10, 110:
	    f.seek(l2 + 8 * n)
	    entry = struct.unpack(">Q", f.read(8))[0]
	    assert entry
	    f.seek(l2 + 8 * n)
	    f.write(struct.pack(">Q", entry | 1 << 58))
END
tap-img convert -f qcow2 -O raw two.qcow2 got.raw 2>err && fail "convert, though an entry is bad"
qemu-io -f raw -c 'write -q -P 5 7104k 64k' full.raw || fail qemu-io
for c in 10 110; do
	dd if=/dev/zero of=full.raw bs=64K seek=$c count=1 conv=notrunc status=none
done
tap-img convert -q --salvage -f qcow2 -O raw two.qcow2 got.raw 2>err || fail "salvage: $(cat err)"
cmp got.raw full.raw || fail "salvage lost more than what is bad"

# Where --target-image-opts says no format, none is believed.
cp full.raw keep.raw
refuse 1 tap-img convert -n --target-image-opts -f qcow2 c.qcow2 file.filename=keep.raw
cmp keep.raw full.raw || fail "a refused destination was changed"
true
