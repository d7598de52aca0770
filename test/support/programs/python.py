"""Threads, processes, locks between them, a server, TLS, copies with their attributes, a database file."""
import asyncio, http.server, mmap, multiprocessing, os, shutil, signal, socket, sqlite3, ssl, subprocess, tempfile, threading, urllib.request


def square(x):
    return x * x


async def child():
    process = await asyncio.create_subprocess_exec("echo", "async", stdout=subprocess.PIPE)
    return (await process.communicate())[0]


if __name__ == "__main__":
    seen = []
    threads = [threading.Thread(target=seen.append, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(seen) == list(range(8))
    with multiprocessing.Pool(2) as pool:
        assert sum(pool.map(square, range(10))) == 285
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=queue.put, args=(5,))
    process.start()
    assert queue.get() == 5
    process.join()
    assert subprocess.run(["echo", "sub"], capture_output=True, text=True, start_new_session=True).stdout == "sub\n"
    folder = tempfile.mkdtemp()
    open(folder + "/a", "w").write("x")
    shutil.copy2(folder + "/a", folder + "/b")
    shutil.copytree(folder, folder + "2")
    shutil.rmtree(folder)
    database = sqlite3.connect("/tmp/x.db")
    database.execute("pragma journal_mode=wal")
    database.execute("create table t(a)")
    database.commit()
    assert asyncio.run(child()) == b"async\n"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/").status == 200
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ours, theirs, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        assert theirs.pending > 100
    mmap.mmap(-1, 4096)[0] = 1
    assert os.sched_getaffinity(0) and socket.gethostbyname("localhost") == "127.0.0.1"
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    assert signal.sigwait({signal.SIGALRM}) == signal.SIGALRM
    print("all well")
