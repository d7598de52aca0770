#!/bin/sh
# The create step of a container, in a mount namespace of its own: what is mounted here is seen by the runtime and lives on
# in the container, but never shows in the host's mount table, and is gone when the container is.
#
# conmon runs it in place of the runtime:  create-wrapper.sh RUN_DIR MOUNTS LOWER NETNS HIDE RUNTIME ARGUMENT…
#   RUN_DIR  has upper/ and work/, what the container writes
#   MOUNTS   has root/ and sys/, the mount points
#   LOWER    the image's root, idmapped to the tenant's ids
#   NETNS    the run's network namespace: /sys must show its interfaces, not the machine's
#   HIDE     a cgroup v2 mount of a hybrid machine, which crun cannot live with while it creates; empty for none
# Run by `busybox sh`, whose mount, umount and nsenter are its own: half the time of three dynamic programs.
set -eu
cd "$1" # relative paths from here: a comma or colon in RUN_DIR cannot become a mount option
mounts=$2 lower=$3 netns=$4 hide=$5
shift 5
[ -z "$hide" ] || umount "$hide"
mount -t overlay -o "nosuid,nodev,lowerdir=$lower,upperdir=upper,workdir=work" overlay "$mounts/root"
nsenter --net="$netns" mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$mounts/sys"
exec "$@"
