#!/bin/bash
# cryptsetup opens our LUKS headers, and we those that it makes, of both versions.
# Its data nobody reads here without device-mapper: qemu reads LUKS1, and for LUKS2
# python decrypts with the key that cryptsetup shows.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires cryptsetup python3 openssl
PATH=$BUILD/func:$PATH

printf sesame >"$T/key"
printf another >"$T/key2"
fast="--pbkdf-force-iterations 1000"
argon="--pbkdf-memory 1024 --pbkdf-force-iterations 4"
make()		# NAME ARGUMENTS...
{
	local img=$T/$1
	shift
	rm -f "$img"
	truncate -s 24M "$img"
	# shellcheck disable=SC2086
	cryptsetup luksFormat -q --key-file "$T/key" "$@" "$img" 2>"$T/err" ||
		fail "cryptsetup luksFormat $*: $(cat "$T/err")"
}
opens()		# NAME PASSPHRASE: we do
{
	luksrig get "$T/$1" "$T/got.raw" "$2" 2>"$T/err" ||
		fail "$1 with $2: $(cat "$T/err")"
}
refused()	# NAME TEXT
{
	luksrig get "$T/$1" "$T/got.raw" sesame 2>"$T/err" && fail "$1 was opened"
	grep -q -- "$2" "$T/err" || fail "$1: expected '$2', got: $(cat "$T/err")"
}

# Both versions, their derivations, ciphers, hashes.
make 1 --type luks1 $fast && opens 1 sesame
make 2a --type luks2 --pbkdf argon2id $argon && opens 2a sesame
make 2b --type luks2 --pbkdf argon2i $argon --pbkdf-parallel 1 && opens 2b sesame
make 2c --type luks2 --pbkdf pbkdf2 $fast --hash sha512 && opens 2c sesame
make 2d --type luks2 --pbkdf pbkdf2 $fast -c aes-cbc-essiv:sha256 -s 256 &&
	opens 2d sesame
make 2e --type luks2 --pbkdf pbkdf2 $fast --sector-size 4096 && opens 2e sesame
make 2f --type luks2 --pbkdf pbkdf2 $fast --luks2-metadata-size 64k \
	--luks2-keyslots-size 4m && opens 2f sesame

# A second key, and the first gone; a slot that is nobody's does no harm.
cryptsetup luksAddKey -q --key-file "$T/key" --pbkdf pbkdf2 $fast "$T/2a" "$T/key2" ||
	fail luksAddKey
opens 2a another
cryptsetup luksKillSlot -q --key-file "$T/key2" "$T/2a" 0 || fail luksKillSlot
refused 2a 'no passphrase given opens it'
cryptsetup luksAddKey -q --key-file "$T/key" --unbound --key-size 256 --pbkdf pbkdf2 \
	$fast "$T/2c" "$T/key2" 2>"$T/err" || fail "unbound: $(cat "$T/err")"
opens 2c sesame
luksrig get "$T/2c" "$T/got.raw" another 2>/dev/null && fail "an unbound key opens"

# A damaged copy of the header.
dd if=/dev/zero of="$T/2e" bs=4096 count=1 conv=notrunc status=none
opens 2e sesame
grep -q 'first copy of its LUKS2 header is damaged' "$T/err" || fail "$(cat "$T/err")"

# What it would cost too much to open, and what is not for us.
make hog --type luks2 --pbkdf argon2id --pbkdf-memory 1048577 \
	--pbkdf-force-iterations 4 2>/dev/null
python3 - "$T/2d" <<'EOF' || fail "edit"
import hashlib, sys
p = sys.argv[1]
b = bytearray(open(p, 'rb').read())
for at in 0, 16384:
    n = b.find(b'"iterations":1000,', at)		# the slot's: longer by five
    j = b[at + 4096:at + 16384].replace(b'"iterations":1000,',
                                        b'"iterations":100000000,', 1)
    b[at + 4096:at + 16384] = j[:16384 - 4096]
    b[at + 448:at + 512] = bytes(64)
    b[at + 448:at + 480] = hashlib.sha256(b[at:at + 16384]).digest()
open(p, 'wb').write(b)
EOF
refused 2d 'wants 100000000 iterations, more than 50000000'

# Ours, judged by it.
for v in 'version=1' 'version=1 hash=sha1 mode=cbc-essiv:sha256 key=16' 'version=2' \
	'version=2 sector=4096' 'version=2 hash=sha512 key=32'; do
	# shellcheck disable=SC2086
	luksrig format "$T/o" sesame 8M $v || fail "format $v"
	cryptsetup open --test-passphrase --key-file "$T/key" "$T/o" 2>"$T/err" ||
		fail "cryptsetup does not open ours ($v): $(cat "$T/err")"
	cryptsetup open --test-passphrase --key-file "$T/key2" "$T/o" 2>/dev/null &&
		fail "cryptsetup opens ours ($v) with another key"
	cryptsetup luksDump "$T/o" >"$T/dump" 2>"$T/err" || fail "luksDump: $(cat "$T/err")"
	[ -s "$T/err" ] && fail "luksDump has something to say: $(cat "$T/err")"
	cryptsetup luksUUID "$T/o" | grep -qE '^[0-9a-f-]{36}$' || fail "uuid"
	opens o sesame
done

# The data, by the key that cryptsetup shows.
decrypted()	# NAME SECTOR: as python sees it
{
	rm -f "$T/vk"
	cryptsetup luksDump -q --dump-volume-key --key-file "$T/key" \
		--volume-key-file "$T/vk" "$T/$1" >/dev/null 2>"$T/err" ||
		fail "volume key: $(cat "$T/err")"
	python3 - "$T/$1" "$T/vk" "$2" >"$T/py.raw" <<'EOF'
import subprocess, sys
img, key, ss = open(sys.argv[1], 'rb').read(), open(sys.argv[2], 'rb').read(), int(sys.argv[3])
def ecb(k, data, way):
    return subprocess.run(['openssl', 'enc', way, '-aes-256-ecb', '-K', k.hex(),
                           '-nopad'], input=data, stdout=subprocess.PIPE, check=True).stdout
data = img[16 << 20:(16 << 20) + (64 << 10)]
# XTS from its definition: a tweak a sector, doubled in GF(2^128) for each block.
ivs = b''.join((n * ss // 512).to_bytes(16, 'little') for n in range(len(data) // ss))
tweaks, stream = ecb(key[32:], ivs, '-e'), b''
for n in range(len(data) // ss):
    t = int.from_bytes(tweaks[16 * n:16 * n + 16], 'little')
    for _ in range(ss // 16):
        stream += t.to_bytes(16, 'little')
        t <<= 1
        t = (t & (1 << 128) - 1) ^ (0x87 if t >> 128 else 0)
def xor(a, b):
    return (int.from_bytes(a, 'little') ^ int.from_bytes(b, 'little')).to_bytes(len(a), 'little')
sys.stdout.buffer.write(xor(ecb(key[:32], xor(data, stream), '-d'), stream))
EOF
}
random_file "$T/src.raw" 1
for ss in 512 4096; do
	make data --type luks2 --pbkdf pbkdf2 $fast --sector-size $ss -s 512
	luksrig put "$T/data" "$T/src.raw" sesame || fail "put"
	decrypted data $ss
	cmp -n 65536 "$T/src.raw" "$T/py.raw" || fail "sectors of $ss hold other data"
done
