# docker-registry is a Go program: net/http, a goroutine for each of 40 requests.
set -e
printf 'version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /tmp/reg\nhttp:\n  addr: 127.0.0.1:5000\n' > /tmp/r.yml
docker-registry serve /tmp/r.yml > /tmp/reg.log 2>&1 &
server=$!
for i in $(seq 100); do wget -qO- http://127.0.0.1:5000/v2/ && break; sleep 0.1; done
clients=
for i in 1 2 3 4; do
  (for j in $(seq 10); do wget -qO- http://127.0.0.1:5000/v2/_catalog; done > /tmp/out.$i) &
  clients="$clients $!"
done
wait $clients
test "$(cat /tmp/out.* | grep -c repositories)" = 40
kill $server
wait $server || true
echo all well
