#!/bin/bash
# Every option that a program's --help shows stands in its man page and in its
# bash completion; every verb of tap-ctl has both too; every man page is clean;
# every file that README and HACKING name exists.
set -u
. "$(dirname "$0")/lib/test.sh"
requires mandoc
cd "$TOP" || exit 1
bad=0
say() { echo "$*"; bad=1; }

mapfile -t pages < <(find lib ctl tapdisk drivers tools -name '*.[1-8]' |
	LC_ALL=C sort)
[ ${#pages[@]} -gt 0 ] || fail "no man pages"
for m in "${pages[@]}"; do
	mandoc -Tlint -W warning "$m" || say "$m: mandoc finds fault"
done

# The page of a program as plain text, one paragraph a line.
page_text() { mandoc -Tascii -O width=500 "$1" | sed 's/.\x08//g'; }
# The long options of a help text's table: what may stand before is the letter.
options() { grep -oE '^ +(-[A-Za-z0-9], )?--[a-z][a-z0-9-]*' | grep -oE -- '--.*' | sort -u; }

# What bash would offer after "WORD...", for the last of them.
complete_words()
{
	bash -c '
		prog=$1 file=$2
		shift
		source "$file" || exit 1
		shift
		f=$(complete -p "$prog" | sed -n "s/.*-F \([^ ]*\).*/\1/p")
		[ -n "$f" ] || exit 1
		COMP_WORDS=("$prog" "$@")
		COMP_CWORD=$#
		COMP_LINE="${COMP_WORDS[*]}"
		COMP_POINT=${#COMP_LINE}
		COMPREPLY=()
		"$f" "$prog" "${!#}" "${COMP_WORDS[COMP_CWORD-1]}"
		printf "%s\n" "${COMPREPLY[@]}"
	' bash "$@" 2>&1
}

# check_options PAGE COMPLETION PROG [VERB]
check_options()
{
	local page=$1 comp=$2 help o offered
	shift 2
	help=$("$@" --help) || say "$* --help: status $?"
	[ -n "$(options <<<"$help")" ] || say "$* --help shows no options"
	offered=$(complete_words "$1" "$comp" "${@:2}" --)
	for o in $(options <<<"$help"); do
		grep -qE -- "${o}([^a-z-]|\$)" <<<"$text" ||
			say "$page lacks $o of '$*'"
		grep -qE -- "^${o}[= ]*\$" <<<"$offered" ||
			say "$comp does not offer $o after '$*'"
	done
}

for prog in tapdisk blktapctrl tap-ctl tap-io tap-img tap-xl; do
	page=
	for m in "${pages[@]}"; do
		case ${m##*/} in "$prog".[18]) page=$m ;; esac
	done
	comp=tools/completion/$prog
	[ -n "$page" ] || { say "no man page for $prog"; continue; }
	[ -f "$comp" ] || { say "no completion for $prog"; continue; }
	text=$(page_text "$page")
	check_options "$page" "$comp" "$prog"
	"$prog" --version | grep -q '[0-9]\.[0-9]' || say "$prog --version"
done
page=ctl/tap-ctl/tap-ctl.8 comp=tools/completion/tap-ctl
if [ -f $page ] && [ -f $comp ]; then
	text=$(page_text $page)
	verbs=$(complete_words tap-ctl $comp '' | grep -v '^-' | tr -d ' ' | grep .)
	[ -n "$verbs" ] || say "completion offers no verbs"
	for v in allocate free spawn attach detach open close create destroy pause \
			unpause stats info major check list resize shutdown $verbs; do
		grep -qE "(^| )$v( |\$)" <<<"$text" || say "$page lacks the verb $v"
		grep -qx "$v" <<<"$verbs" || say "completion lacks the verb $v"
		check_options $page $comp tap-ctl "$v"
	done
fi

page=tools/tap-img/tap-img.1 comp=tools/completion/tap-img
text=$(page_text $page)
verbs=$(complete_words tap-img $comp '' | grep -v '^-' | tr -d ' ' | grep .)
[ -n "$verbs" ] || say "completion offers no commands of tap-img"
for v in $verbs; do
	grep -qE "(^| )$v( |\$)" <<<"$text" || say "$page lacks the command $v"
	check_options $page $comp tap-img "$v"
done

# Names of files in the guides: in backquotes, with a slash; not what is built.
for d in README.md HACKING.md; do
	for f in $(grep -oE '`[a-z.][A-Za-z0-9_.-]*/[A-Za-z0-9_./-]*`' $d | tr -d '`' |
			grep -v ^build/ | sort -u); do
		[ -e "$f" ] || [ -e "${f%/}" ] || say "$d names $f, which is not there"
	done
done
# Links within the documents.
for d in *.md; do
	for f in $(grep -oE '\]\([^)#:]+\)' "$d" | tr -d '])(' | sort -u); do
		[ -e "$f" ] || say "$d links to $f, which is not there"
	done
done
[ $bad = 0 ] || fail "documents"
