#!/bin/bash
# LUKS1 images of qemu-img and of ours are the same format: what either writes the
# other reads, whatever cipher, mode and hash, with every key slot.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires qemu-img qemu-io nbdkit
PATH=$BUILD/func:$PATH
size=8

secret="secret,id=s,data=sesame"
image() { echo "driver=luks,key-secret=s,file.filename=$1"; }
to_raw()	# LUKS RAW: as qemu sees it
{
	qemu-img convert --object "$secret" --image-opts "$(image "$1")" -O raw "$2" ||
		fail "qemu-img cannot read $1"
}

qemu_create()	# FILE SIZE [OPTION,...]
{
	qemu_img_luks create -q --object "$secret" -f luks \
		-o "key-secret=s,iter-time=10${3:+,$3}" "$1" "$2"
}

random_file "$T/src.raw" $size
random_file "$T/new.raw" 3
cp "$T/src.raw" "$T/both.raw"
dd if="$T/new.raw" of="$T/both.raw" conv=notrunc status=none

n=0
both_ways()	# IMAGE WHAT: QEMU filled it; we read it, write it, and it reads that
{
	luksrig get "$1" "$T/got.raw" sesame 2>"$T/err" || fail "$2: $(cat "$T/err")"
	cmp "$T/src.raw" "$T/got.raw" || fail "$2: we read other data"
	luksrig put "$1" "$T/new.raw" sesame || fail "$2: put"
	to_raw "$1" "$T/got.raw"
	cmp "$T/both.raw" "$T/got.raw" || fail "$2: qemu reads other data"
	n=$((n + 1))
}

# qemu-img makes.  (Of keys of 192 bits it dies.)
for o in '' \
	cipher-alg=aes-128 \
	cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256 \
	cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=plain \
	hash-alg=sha1 hash-alg=sha512; do
	qemu_create "$T/q.luks" ${size}M "$o" ||
		fail "qemu-img create $o: $(cat "$T/luks.err")"
	qemu-img convert -n --object "$secret" -f raw "$T/src.raw" \
		--target-image-opts "$(image "$T/q.luks")" || fail "convert $o"
	both_ways "$T/q.luks" "qemu's ${o:-default}"
done

# We make.
for o in '' key=32 'mode=cbc-essiv:sha256 key=16' \
	'mode=cbc-plain key=32' hash=sha1 hash=sha512 hash=ripemd160; do
	# shellcheck disable=SC2086
	luksrig format "$T/o.luks" sesame ${size}M $o || fail "format $o"
	qemu-img convert -n --object "$secret" -f raw "$T/src.raw" \
		--target-image-opts "$(image "$T/o.luks")" ||
		fail "qemu-img does not open ours: $o"
	both_ways "$T/o.luks" "ours ${o:-default}"
done
[ "$(qemu-img info --output=json "$T/o.luks" | grep -c '"luks"')" -gt 0 ] ||
	fail "qemu-img info does not see LUKS"

# Slots: a second passphrase, then the first slot erased.
qemu_create "$T/s.luks" ${size}M || fail "create"
qemu-img convert -n --object "$secret" -f raw "$T/src.raw" \
	--target-image-opts "$(image "$T/s.luks")" || fail "convert"
qemu-img amend --object "$secret" --object secret,id=n,data=another \
	-o state=active,new-secret=n,keyslot=5,iter-time=10 \
	--image-opts "$(image "$T/s.luks")" || fail "amend: new slot"
for p in sesame another; do
	luksrig get "$T/s.luks" "$T/got.raw" "$p" || fail "slot of $p"
	cmp "$T/src.raw" "$T/got.raw" || fail "slot of $p gives other data"
done
luksrig get "$T/s.luks" "$T/got.raw" no nein another || fail "the third passphrase"
qemu-img amend --object "$secret" -o state=inactive,keyslot=0 --force \
	--image-opts "$(image "$T/s.luks")" || fail "amend: erase"
luksrig get "$T/s.luks" "$T/got.raw" sesame 2>"$T/err" && fail "an erased slot opens"
grep -q 'no passphrase given opens it' "$T/err" || fail "$(cat "$T/err")"
luksrig get "$T/s.luks" "$T/got.raw" another || fail "the slot that is left"

# nbdkit is a third who reads (and knows no ripemd160).
luksrig format "$T/o.luks" sesame ${size}M || fail "format"
luksrig put "$T/o.luks" "$T/both.raw" sesame || fail "put"
nbdkit -U - --filter=luks file "$T/o.luks" passphrase=sesame \
	--run "qemu-img convert \"\$uri\" -f raw -O raw '$T/got.raw'" ||
	fail "nbdkit does not open ours"
cmp "$T/both.raw" "$T/got.raw" || fail "nbdkit reads other data"

# No passphrase, the wrong one, serpent.
luksrig get "$T/o.luks" "$T/got.raw" 2>"$T/err" && fail "opened without a passphrase"
grep -q 'no passphrase was given' "$T/err" || fail "$(cat "$T/err")"
if qemu_create "$T/x.luks" 1M cipher-alg=serpent-256; then
	luksrig get "$T/x.luks" "$T/got.raw" sesame 2>"$T/err" && fail "serpent opens"
	grep -q "cipher 'serpent' is not supported" "$T/err" || fail "$(cat "$T/err")"
fi
note "$n images, both ways"
