#!/usr/bin/env bash
# Stop the daemons that cluster_up.sh started for FOLDER, and nothing else.
#
#   cluster_down.sh FOLDER
set -uo pipefail

folder=$(realpath -m "${1:?usage: cluster_down.sh FOLDER}")
standard=/etc/slurm/slurm.conf

owned_by_cluster() { # PID NAME: is this process still that daemon? The number may have been given out again.
    [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ]
}

stop() {
    local name=$1 file=$folder/run/$1.pid pid
    [ -s "$file" ] || return
    pid=$(<"$file")
    owned_by_cluster "$pid" "$name" || return
    kill "$pid"
    for _ in $(seq 100); do
        owned_by_cluster "$pid" "$name" || return
        sleep 0.1
    done
    kill -KILL "$pid"
}

if [ -S "$folder/run/munge.socket" ] && [ "$(readlink "$standard")" = "$folder/etc/slurm.conf" ]; then
    # A job would outlive the daemons. At most ten seconds for its processes to end.
    scancel --user root 2>/dev/null
    for _ in $(seq 50); do
        [ -z "$(squeue --noheader 2>/dev/null)" ] && break
        sleep 0.2
    done
fi
for name in slurmctld slurmd munged; do stop "$name"; done
[ "$(readlink "$standard")" = "$folder/etc/slurm.conf" ] && rm -f "$standard"
exit 0
