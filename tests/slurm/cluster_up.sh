#!/usr/bin/env bash
# Start a SLURM cluster of one node, this machine, with one GPU that is none.
#
#   cluster_up.sh FOLDER      FOLDER takes every file: key, configuration, state, logs, process ids
#
# Needs root and Debian's package manager. Everything listens on loopback only. Outside FOLDER it leaves the
# installed packages and one link, /etc/slurm/slurm.conf, which cluster_down.sh removes.
# Exit status: 0 the cluster is up, 3 the packages cannot be had, 1 anything else.
set -euo pipefail

folder=$(realpath -m "${1:?usage: cluster_up.sh FOLDER}")
packages=(munge slurmctld slurmd slurm-client)
programs=(munged slurmctld slurmd sbatch srun scontrol)
standard=/etc/slurm/slurm.conf
node=$(hostname -s)

fail() {
    echo "cluster_up: $*" >&2
    exit 1
}

install_slurm() {
    type "${programs[@]}" >/dev/null 2>&1 && return
    local policy=/usr/sbin/policy-rc.d made=
    # Debian starts a service when its package arrives, unless this file forbids it.
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made=$policy
    fi
    local done=0
    { apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"; } \
        >"$folder/log/apt.log" 2>&1 || done=$?
    [ -z "$made" ] || rm -f "$made"
    [ "$done" = 0 ] && return
    grep '^[EW]:' "$folder/log/apt.log" >&2
    exit 3
}

free_ports() { # as many as asked for, none in use now
    python3 - "$1" <<'PY'
import socket, sys

sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in sockets:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in sockets))
PY
}

write_configuration() {
    local controller_port node_port
    read -r controller_port node_port < <(free_ports 2)
    cat >"$folder/etc/slurm.conf" <<CONF
ClusterName=mmie-test
# The address in brackets and the two parameters keep the daemons off every other interface.
SlurmctldHost=$node(127.0.0.1)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=$controller_port
SlurmdPort=$node_port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.socket
# Works without systemd and without control groups, so also inside a container.
ProctrackType=proctrack/linuxproc
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
MailProg=/bin/true
ReturnToService=2
# There is no accounting database: squeue and scontrol must remember finished jobs to the end of the test.
MinJobAge=7200
# A cancelled job that ignores SIGTERM gets SIGKILL after so many seconds.
KillWait=5
# Start a job when it is submitted, not at the next round of the scheduler.
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# Believe the sizes below rather than the machine: cores and memory are plenty, so that the GPU alone makes
# jobs wait, also where the machine is small.
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=$node NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes=$node Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=$node MaxTime=INFINITE State=UP
CONF
    # A bare count is not accepted: a GPU must be a device file, and this one is everywhere.
    echo "NodeName=$node Name=gpu File=/dev/null" >"$folder/etc/gres.conf"
}

claim_standard_path() {
    # Snakemake's job step drops SLURM_CONF, so the inner srun finds the cluster at the standard path only.
    mkdir -p /etc/slurm
    if [ -e "$standard" ] && [ "$(readlink -f "$standard")" != "$folder/etc/slurm.conf" ]; then
        fail "$standard belongs to another cluster"
    fi
    ln -sfn "$folder/etc/slurm.conf" "$standard"
}

start_daemons() {
    # munged refuses a key that others can read, and a socket below a folder that they cannot enter.
    (umask 077 && head -c 128 /dev/urandom >"$folder/key/munge.key")
    {
        munged --key-file="$folder/key/munge.key" --seed-file="$folder/key/munge.seed" \
            --socket="$folder/run/munge.socket" --pid-file="$folder/run/munged.pid" \
            --log-file="$folder/log/munged.log" &&
            # Named, so that they look for gres.conf beside it and not beside the link.
            slurmctld -c -f "$folder/etc/slurm.conf" &&
            slurmd -f "$folder/etc/slurm.conf"
    } >"$folder/log/start.log" 2>&1 || fail "a daemon did not start: $(cat "$folder/log/start.log")"
}

wait_for_node() {
    for _ in $(seq 150); do
        [ "$(sinfo --noheader --partition cpu --format %T 2>/dev/null)" = idle ] && return
        sleep 0.2
    done
    tail -n 15 "$folder"/log/*.log >&2
    fail "the node did not become idle within 30 s: $(sinfo --noheader --format '%T %E' 2>&1 | head -n 1)"
}

mkdir -p "$folder"/{etc,run,log,key,state,spool}
chmod 755 "$folder" "$folder"/{etc,run,log}
chmod 700 "$folder"/{key,state,spool}
unset SLURM_CONF
install_slurm
write_configuration
claim_standard_path
start_daemons
wait_for_node
echo "SLURM $(sinfo --version | cut -d' ' -f2) is up: one node, $(sinfo --noheader --partition gpu --format %G)"
