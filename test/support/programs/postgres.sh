# As its image starts it: files are given to the user postgres, who makes a cluster and serves it.
set -e
bin=/usr/lib/postgresql/15/bin
mkdir -p /tmp/pg /run/postgresql
chown postgres:postgres /tmp/pg /run/postgresql
chmod 700 /tmp/pg
setpriv --reuid postgres --regid postgres --init-groups sh -ec "
  cd /tmp
  $bin/initdb -D pg --no-instructions > /tmp/initdb.log 2>&1
  $bin/pg_ctl -D pg -l /tmp/pg.log -w start > /dev/null
  test \"\$($bin/psql -qtAc '
    create table t as select generate_series(1, 100000) a;
    create index on t(a);
    checkpoint;
    set max_parallel_workers_per_gather = 2;
    set min_parallel_table_scan_size = 0;
    select sum(a) from t')\" = 5000050000
  $bin/pg_ctl -D pg -m fast -w stop > /dev/null"
! grep -e WARNING -e FATAL -e PANIC /tmp/pg.log
echo all well
