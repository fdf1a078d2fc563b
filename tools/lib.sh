# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the shell tools share: messages, the cache, and Debian packages.
# A tool sets $tool to its own name before it sources this.
#
# Everything the tools make is kept under $cache. A piece is made in a
# temporary directory beside its final place and renamed into it when whole,
# so that a reader never sees half of one and two makers do no harm.

cache=${MINIVMM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/minivmm}

say() { echo "$tool: $*" >&2; }
die() { echo "$tool: $*" >&2; exit 1; }
usage_error() { echo "$tool: $* (try --help)" >&2; exit 2; }

# print_help FILE: the comment block that opens FILE
print_help() { sed -n '/^#!/d; /SPDX/d; /^#/!q; s/^# \{0,1\}//p' "$1" | sed '1{/^$/d}'; }

# begin_piece NAME: wait for whoever makes $cache/NAME at this moment, then
# make a temporary directory for it and set $piece to that. Exit removes it.
begin_piece() {
	mkdir -p "$cache"
	exec {piece_lock}>"$cache/.lock-$1"
	flock -n "$piece_lock" || { say "waiting for another $tool"; flock "$piece_lock"; }
	piece=$(mktemp -d "$cache/.tmp-$1-XXXXXX")
	trap 'rm -rf "$piece"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# end_piece NAME: what was made in $piece becomes $cache/NAME
end_piece() {
	chmod 755 "$piece"
	rm -rf "${cache:?}/$1"
	mv -T "$piece" "$cache/$1"
	trap - EXIT INT TERM
	exec {piece_lock}>&-
}

# package_version PACKAGE: the version apt would install
package_version() {
	local version
	version=$(apt_candidate "$1")
	if [ -z "$version" ] && [ "$(id -u)" = 0 ]; then
		apt-get -qq update >&2
		version=$(apt_candidate "$1")
	fi
	[ -n "$version" ] || die "apt knows no package $1 (run apt-get update as root)"
	echo "$version"
}
apt_candidate() {
	apt-cache policy "$1" 2>/dev/null |
		awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'
}

# fetch_deb PACKAGE DIR: download one package into DIR
fetch_deb() {
	# as root, apt would hand the download to a user who cannot write in DIR
	(cd "$2" && apt-get -qq -o APT::Sandbox::User=root download "$1" >&2) ||
		die "cannot download package $1"
}
