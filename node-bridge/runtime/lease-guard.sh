#!/bin/sh
# Ends the containers of a host whose bridge is stopped or gone when their lease runs out. The bridge ends them itself, earlier and
# more gently; this is for when it cannot. A process of its own in a language that every host has: it costs some 100 KB, wakes
# every five seconds at most, and needs nothing of the bridge but two files that it keeps.
#
#   lease-guard.sh LEASE RUNS PARENT...
#
# LEASE   one line: boot id, when the lease was renewed, when everything must be dead (milliseconds of boot time)
# RUNS    a folder with one empty file for each run that must end with the lease, named by its id
# PARENT  the cgroups under which the runs' own are, each in one hierarchy
lease=$1 runs=$2
shift 2

now_ms() { # CLOCK_BOOTTIME, which counts sleep
  read -r up _ </proc/uptime
  now=${up%.*}${up#*.}0
}

kill_in() { # every process of one cgroup; v1 has no way to do it at once
  dir=$1
  if [ -e "$dir/cgroup.kill" ]; then
    echo 1 >"$dir/cgroup.kill"
    return
  fi
  [ -e "$dir/pids.max" ] && echo 0 >"$dir/pids.max"
  for procs in "$dir"/cgroup.procs "$dir"/*/cgroup.procs; do
    [ -e "$procs" ] || continue
    while read -r pid; do
      kill -KILL "$pid" && alive=1
    done <"$procs"
  done
  # A frozen process dies once it is thawed.
  [ -e "$dir/freezer.state" ] && echo THAWED >"$dir/freezer.state"
}

kill_all() { # until nothing is left to kill, or for about ten seconds
  tries=0
  alive=1
  while [ -n "$alive" ] && [ $tries -lt 200 ]; do
    alive=
    for run in "$runs"/run_*; do
      [ -e "$run" ] || continue
      for parent in "$@"; do
        [ -d "$parent/${run##*/}" ] && kill_in "$parent/${run##*/}"
      done
    done
    tries=$((tries + 1))
    [ -n "$alive" ] && sleep 0.05
  done
}

while [ -d "$runs" ]; do
  wait_ms=5000
  if read -r _ _ kill_at <"$lease"; then
    kill_at=${kill_at%% *}
    now_ms
    left=$((kill_at - now))
    if [ $left -le 0 ]; then
      kill_all "$@"
      # Nobody renews it, and nothing is left to guard: the next bridge starts another guard when it needs one.
      [ $left -lt -60000 ] && exit 0
    elif [ $left -lt $wait_ms ]; then
      wait_ms=$left
    fi
  fi 2>/dev/null
  sleep "$((wait_ms / 1000)).$(printf %03d $((wait_ms % 1000)))"
done 2>/dev/null
