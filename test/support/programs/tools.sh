# Debian's own tools: archives, attributes, sorting in threads, packages with a user of their own, becoming somebody else.
set -e
cd /tmp
mkdir -p t/a
echo hi > t/a/f
ln -s f t/a/l
mkfifo t/p
tar -C t -cJf t.tar.xz .
mkdir u
tar -C u -xpf t.tar.xz
cmp t/a/f u/a/f
cp -a t t2
chown -R www-data:www-data t2
test "$(find t2 -user www-data | wc -l)" = 5
ls -la t2 > /dev/null
df . > /dev/null
touch -d 2020-01-01 t/a/f
mv t2 t3
rm -r t3
test "$(seq 100000 | sort -R --parallel=4 | sort -n --parallel=4 | tail -1)" = 100000
(trap 'echo trapped' USR1; kill -USR1 $BASHPID) | grep -q trapped
timeout 5 nice true
perl -e '
  use threads;
  my $sum = 0;
  $sum += $_->join for map { my $n = $_; threads->create(sub { $n * 2 }) } 1 .. 4;
  $SIG{ALRM} = sub { print "alarm " };
  alarm 1; sleep 5;
  utime 1, 1, "/tmp/t/a/f";
  print "perl $sum\n"' | grep -qx 'alarm perl 20'
dpkg --list bash > /dev/null
# Its sandbox becomes the user _apt; with no sources there is nothing to fetch.
apt-get update -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null
mkdir -p pkg/DEBIAN pkg/opt
printf 'Package: berth-probe\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.example>\nDescription: x\n' > pkg/DEBIAN/control
echo x > pkg/opt/probe
printf '#!/bin/sh\nset -e\nuseradd -r probe-user\nchown probe-user /opt/probe\n' > pkg/DEBIAN/postinst
chmod 755 pkg/DEBIAN/postinst
dpkg-deb -b pkg probe.deb
apt-get install -y ./probe.deb
test "$(stat -c %U /opt/probe)" = probe-user
apt-get purge -y berth-probe
test "$(su www-data -s /bin/sh -c 'id -un')" = www-data
test "$(setpriv --reuid www-data --regid www-data --clear-groups id -un)" = www-data
echo all well
