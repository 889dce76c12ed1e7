#!/usr/bin/env bash
# services.sh COMMAND...: runs COMMAND with a throwaway PostgreSQL, MariaDB and
# Redis beside it, and stops them afterwards, however COMMAND ends.
#
# Each server lives in a temporary folder, on a free loopback port, with a new
# password; nothing that already runs on the machine is used or touched. What
# is missing is installed where that is allowed (root, with apt-get). A server
# that cannot be had is named, and its tests skip themselves.
#
# COMMAND gets PART164_TEST_POSTGRES, PART164_TEST_MARIADB (DSNs) and
# PART164_TEST_REDIS (host:port).
set -uo pipefail
umask 077
set -m # every job in a process group of its own, to be stopped as one

say() { printf 'services: %s\n' "$*"; }

# --- what is missing -------------------------------------------------------

# newest directory that holds PostgreSQL's initdb (Debian keeps it off PATH)
pg_bin() {
	local d
	d=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
	[ -x "$d" ] || d=$(command -v initdb) || return 1
	dirname "$d"
}

on_path() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }

install_missing() {
	local want=()
	on_path gcc || want+=(gcc libc6-dev)
	pg_bin >/dev/null || want+=(postgresql)
	on_path mariadbd || want+=(mariadb-server)
	on_path redis-server || want+=(redis-server)
	on_path oathtool || want+=(oathtool)
	[ -n "$(compgen -G '/usr/lib/*/rsyslog/lmnsd_ossl.so')" ] && on_path rsyslogd || want+=(rsyslog rsyslog-openssl)
	[ ${#want[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ] || ! on_path apt-get; then
		say "missing: ${want[*]}; not installed, because this needs root and apt-get"
		return 0
	fi
	say "installing ${want[*]}"
	# PostgreSQL's package makes and starts a cluster on 5432 unless told not to.
	if [[ " ${want[*]} " == *" postgresql "* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
		mkdir -p /etc/postgresql-common
		echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
	fi
	# policy-rc.d answering 101 keeps packages from starting their servers.
	local policy=/usr/sbin/policy-rc.d made=
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod 755 $policy
		made=1
	fi
	local log
	log=$(mktemp)
	if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
		-o Dpkg::Options::=--force-confold "${want[@]}"; } >"$log" 2>&1 </dev/null; then
		tail -n 20 "$log"
		say "apt-get failed: going on with what is there"
	fi
	rm -f "$log"
	[ -z "$made" ] || rm -f $policy
}

# --- start and stop --------------------------------------------------------

work= # the temporary folder
pids=()
names=()
signals=()
child=

stop() {
	trap '' INT TERM HUP
	if [ -n "$child" ] && kill -0 "$child" 2>/dev/null; then
		kill -TERM -- "-$child" 2>/dev/null # COMMAND and what it started
		wait "$child" 2>/dev/null
	fi
	local i n
	for i in "${!pids[@]}"; do kill "-${signals[$i]}" "${pids[$i]}" 2>/dev/null; done
	for i in "${!pids[@]}"; do
		for ((n = 0; n < 100; n++)); do
			kill -0 "${pids[$i]}" 2>/dev/null || break
			sleep 0.1
		done
		kill -KILL "${pids[$i]}" 2>/dev/null
		say "${names[$i]} stopped"
	done
	[ -z "$work" ] || rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# as USER SIGNAL COMMAND...: runs COMMAND as USER where we are root (servers
# refuse to run as root), and has the kernel send it SIGNAL should this script
# die without a chance to stop it. It ends in an exec: the job's PID is the
# server's own.
as() {
	local user=$1 signal=$2
	shift 2
	local drop=()
	if command -v setpriv >/dev/null; then
		drop=(setpriv --pdeathsig "$signal")
		[ "$(id -u)" != 0 ] || drop+=(--reuid "$user" --regid "$(id -g "$user")" --init-groups)
		drop+=(--)
	fi
	cd "$work" && exec ${drop[@]+"${drop[@]}"} "$@"
}

# a loopback port that nothing listens on, below the range that the kernel
# gives to outgoing connections
free_port() {
	local p
	while :; do
		p=$((20000 + RANDOM % 12000))
		(: <"/dev/tcp/127.0.0.1/$p") 2>/dev/null || break
	done
	echo $p
}

folder() { # NAME USER
	mkdir -m 0700 "$work/$1"
	[ "$(id -u)" != 0 ] || chown "$2" "$work/$1"
}

# start NAME USER SIGNAL COMMAND...: in the background, its output in a file
start() {
	local name=$1
	shift
	(as "$@") >"$work/$name.log" 2>&1 </dev/null &
	pids+=($!)
	names+=("$name")
	signals+=("$2")
}

# answers NAME COMMAND...: waits until COMMAND succeeds, and prints its output
answers() {
	local name=$1 pid=${pids[-1]} out n
	shift
	for ((n = 0; n < 600; n++)); do
		if out=$("$@" 2>/dev/null </dev/null); then
			say "$name up: $out"
			return 0
		fi
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	tail -n 20 "$work/$name.log"
	return 1
}

left_out() { say "no $1: the tests that want it are left out ($2)"; }

init_postgres() {
	printf '%s' "$secret" >"$work/postgres/password"
	[ "$(id -u)" != 0 ] || chown postgres "$work/postgres/password"
	(as postgres TERM "$pg/initdb" -D "$work/postgres/data" -U part164 -E UTF8 --no-locale --no-sync \
		--auth=scram-sha-256 --pwfile="$work/postgres/password") >"$work/postgres-init.log" 2>&1 </dev/null
}

start_postgres() {
	# fsync=off: these databases die with the test run
	start postgres postgres INT "$pg/postgres" -D "$work/postgres/data" -p "$1" -k "$work/postgres" \
		-c listen_addresses=127.0.0.1 -c max_connections=200 -c fsync=off -c full_page_writes=off
	export PGPASSWORD=$secret
	answers postgres "$pg/psql" -h 127.0.0.1 -p "$1" -U part164 -d postgres -AtXc 'select version()' &&
		"$pg/createdb" -h 127.0.0.1 -p "$1" -U part164 part164 </dev/null &&
		export PART164_TEST_POSTGRES="host=127.0.0.1 port=$1 user=part164 password=$secret dbname=part164 sslmode=disable"
	local ok=$?
	unset PGPASSWORD
	return $ok
}

init_mariadb() {
	(as mysql TERM mariadb-install-db --no-defaults --datadir="$work/mariadb/data" \
		--auth-root-authentication-method=normal --skip-test-db) >"$work/mariadb-init.log" 2>&1 </dev/null
}

start_mariadb() {
	cat >"$work/mariadb.sql" <<-SQL
		CREATE DATABASE part164 CHARACTER SET utf8mb4;
		CREATE USER 'part164'@'127.0.0.1' IDENTIFIED BY '$secret';
		GRANT ALL ON *.* TO 'part164'@'127.0.0.1' WITH GRANT OPTION;
		DROP USER 'root'@'localhost';
	SQL
	[ "$(id -u)" != 0 ] || chown mysql "$work/mariadb.sql"
	start mariadb mysql TERM "$(PATH=$PATH:/usr/sbin command -v mariadbd)" --no-defaults --datadir="$work/mariadb/data" \
		--port="$1" --bind-address=127.0.0.1 --socket="$work/mariadb/socket" --pid-file="$work/mariadb/pid" \
		--skip-name-resolve --max-connections=200 --innodb-flush-log-at-trx-commit=0 --init-file="$work/mariadb.sql"
	MYSQL_PWD=$secret answers mariadb mariadb --no-defaults -h 127.0.0.1 -P "$1" -u part164 part164 -NBe 'select version()' &&
		export PART164_TEST_MARIADB="part164:$secret@tcp(127.0.0.1:$1)/part164?parseTime=true&charset=utf8mb4&loc=UTC"
}

start_redis() {
	start redis nobody TERM redis-server --port "$1" --bind 127.0.0.1 --dir "$work/redis" --save '' --appendonly no
	answers redis redis_version "$1" "${pids[-1]}" && export PART164_TEST_REDIS=127.0.0.1:$1
}

# redis_version PORT PID: it has no password here, so it is known by its PID
redis_version() {
	local info
	info=$(redis-cli -h 127.0.0.1 -p "$1" info server | tr -d '\r') &&
		grep -qx "process_id:$2" <<<"$info" && sed -n 's/^redis_version://p' <<<"$info"
}

# --- run -------------------------------------------------------------------

[ $# -gt 0 ] || { echo 'usage: services.sh COMMAND...' >&2; exit 2; }
unset PART164_TEST_POSTGRES PART164_TEST_MARIADB PART164_TEST_REDIS
install_missing
work=$(mktemp -d /tmp/part164.XXXXXX)
chmod 755 "$work" # its subfolders are 0700, each its server's own
secret=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')

has_postgres= has_mariadb= has_redis=
if pg=$(pg_bin) && folder postgres postgres; then has_postgres=1; init_postgres & fi
if on_path mariadbd && folder mariadb mysql; then has_mariadb=1; init_mariadb & fi
if on_path redis-server && folder redis nobody; then has_redis=1; fi
wait

# each gets three tries, should somebody take the port in between
for service in postgres mariadb redis; do
	has=has_$service
	if [ -z "${!has}" ]; then
		left_out $service 'not installed'
		continue
	fi
	for try in 1 2 3; do
		start_$service "$(free_port)" && continue 2
		kill -KILL "${pids[-1]}" 2>/dev/null
		unset 'pids[-1]' 'names[-1]' 'signals[-1]'
	done
	cat "$work/$service-init.log" 2>/dev/null
	left_out $service 'it did not start: see above'
done

"$@" </dev/null &
child=$!
wait $child
status=$?
child=
exit $status
