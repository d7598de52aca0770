# Both kinds of persistence, each by a child that is forked off, and a client.
set -e
redis-server --port 6379 --save 60 1 --appendonly yes --dir /tmp > /tmp/redis.log &
server=$!
for i in $(seq 100); do redis-cli ping 2> /dev/null | grep -q PONG && break; sleep 0.1; done
redis-cli set a b
test "$(redis-cli get a)" = b
test "$(redis-cli -r 1000 incr n | tail -1)" = 1000
redis-cli bgsave
for i in $(seq 100); do redis-cli info persistence | grep -q bgsave_in_progress:0 && break; sleep 0.1; done
redis-cli bgrewriteaof
for i in $(seq 100); do redis-cli info persistence | grep -q aof_rewrite_in_progress:0 && break; sleep 0.1; done
test "$(redis-cli info persistence | tr -d '\r' | grep -c -e rdb_last_bgsave_status:ok -e aof_last_bgrewrite_status:ok)" = 2
redis-cli shutdown
wait $server
echo all well
