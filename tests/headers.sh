#!/bin/bash
# Each header compiles alone, and no folder can include what lies above it.
#
# The include paths are asked of the Makefile, so that it is its rules that are
# tested: of each folder one object's command line is taken (make -n).
set -u
. "$(dirname "$0")/lib/test.sh"
cd "$TOP" || exit 1

CC=${CC:-cc}
bad=0
say() { echo "$*"; bad=1; }

# The -I options that the Makefile gives folder $1.
inc_of()
{
	local src
	src=$(find "$1" -name '*.c' | LC_ALL=C sort | head -n 1)
	[ -n "$src" ] || return 1
	make -n V=1 BUILD="$T/b" "$T/b/${src%.c}.o" 2>/dev/null |
		grep -o -- ' -I *[^ ]*' | tr -d '\n'
}

# What the Makefile says of each folder; includes relative to these roots.
check_alone()
{
	local h err inc=$1 std=$2
	shift 2
	for h in "$@"; do
		echo "$h"
		# shellcheck disable=SC2086
		err=$($CC -std=gnu11 -D_GNU_SOURCE $inc -Wall -Wextra -Wshadow \
			-Werror -fsyntax-only -x c -include "$h" /dev/null 2>&1) ||
			say "$h does not compile alone: $err"
		[ "$std" = c++ ] || continue
		for cxx in g++ clang++ none; do
			command -v $cxx >/dev/null && break
		done
		[ $cxx = none ] && { say "no C++ compiler to try $h"; continue; }
		# shellcheck disable=SC2086
		err=$($cxx -Iinclude -Wall -Wextra -Werror -fsyntax-only \
			-x c++ -include "$h" /dev/null 2>&1) ||
			say "$h does not compile as C++: $err"
	done
}
# Public headers see include/ alone; the client's also speak C++.
for h in include/*.h; do
	case $h in
	*/tapring*.h) check_alone -Iinclude c++ "$h" ;;
	*) check_alone -Iinclude c "$h" ;;
	esac
done
folders="lib drivers tapdisk ctl/blktapctrl ctl/tap-ctl tools/tap-io"
for f in $folders; do
	inc=$(inc_of "$f") || { say "no source in $f"; continue; }
	[ -n "$inc" ] || say "no include path for $f"
	mapfile -t hdrs < <(find "$f" -name '*.h' | LC_ALL=C sort)
	# Its own includes are Xen's, which may not be here.
	pkg-config --exists xengnttab xenevtchn ||
		mapfile -t hdrs < <(printf '%s\n' "${hdrs[@]}" | grep -v /xen_host.h)
	check_alone "$inc" c "${hdrs[@]}"
done

# above FOLDER "SEEN..." OTHER...: the compiler, called as for FOLDER, finds no
# header of the others, unless its name is also one of a root that FOLDER sees.
# The system's headers do not count: one is called crypt.h too.
above()
{
	local f=$1 seen=$2 o h name d inc
	shift 2
	inc=$(inc_of "$f") || return 0
	for o in "$@"; do
		for h in $(find "$o" -name '*.h' 2>/dev/null); do
			for name in "${h#"$o"/}" "$(basename "$h")"; do
				for d in $seen "$f"; do
					[ -e "$d/$name" ] && continue 2
				done
				printf '#if __has_include("%s")\n#error %s %s\n#endif\n' \
					"$name" "$f can include $h as" "$name"
			done
		done
	done >"$T/probe.c"
	# shellcheck disable=SC2086
	$CC -std=gnu11 $inc -nostdinc -fsyntax-only "$T/probe.c" 2>"$T/probe.err" ||
		say "$(grep -o '#error.*' "$T/probe.err")"
}
ctl="ctl/blktapctrl ctl/tap-ctl" base="include lib"
above lib "$base" drivers tapdisk $ctl tools/tap-io tests/lib
above drivers "$base" tapdisk $ctl tools/tap-io tests/lib
above tapdisk "$base drivers" $ctl tools/tap-io tests/lib
above ctl/blktapctrl "$base" drivers tapdisk ctl/tap-ctl tools/tap-io tests/lib
above ctl/tap-ctl "$base" drivers tapdisk ctl/blktapctrl tools/tap-io tests/lib
above tools/tap-io "$base" drivers tapdisk $ctl tests/lib

# The way around -I.
if grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"[^"]*\.\./' \
		include lib drivers tapdisk ctl tools; then
	say "an include climbs out of its folder with ../"
fi
# Nothing depends on tests or bench.
if grep -rnE '#[[:space:]]*include[[:space:]]*"(tests|bench)/' \
		include lib drivers tapdisk ctl tools; then
	say "an include of tests or bench"
fi
[ $bad = 0 ] || fail "headers"
