# As its image starts it: the master as root at port 80, workers as www-data, a reload, a graceful end.
set -e
nginx -g 'daemon off;' &
master=$!
for i in $(seq 100); do wget -qO /tmp/o http://127.0.0.1:80/ && break; sleep 0.1; done
grep -q nginx /tmp/o
owners() { for p in /proc/[0-9]*; do tr '\0' ' ' < "$p/cmdline" | grep -q "^nginx: $1" && stat -c %U "$p"; done | sort -u; }
test "$(owners master)" = root
test "$(owners worker)" = www-data
kill -HUP $master
wget -qO /dev/null http://127.0.0.1/
kill -QUIT $master
wait $master
echo all well
