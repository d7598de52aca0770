import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardWatchEventKinds;
import java.util.ArrayList;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/** A pool of threads, a server and its client, a child process, copies with their attributes, a watched directory. */
public class Main {
  public static void main(String[] args) throws Exception {
    var pool = Executors.newFixedThreadPool(8);
    var parts = new ArrayList<Future<Integer>>();
    for (int i = 0; i < 100; i++) {
      int n = i;
      parts.add(pool.submit(() -> n * n));
    }
    int sum = 0;
    for (var part : parts) sum += part.get();
    check(sum == 328350, "threads");
    var server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
    server.createContext("/", exchange -> {
      exchange.sendResponseHeaders(200, 2);
      exchange.getResponseBody().write("ok".getBytes());
      exchange.close();
    });
    server.setExecutor(pool);
    server.start();
    var ask = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + server.getAddress().getPort() + "/")).build();
    check(HttpClient.newHttpClient().send(ask, HttpResponse.BodyHandlers.ofString()).body().equals("ok"), "http");
    var child = new ProcessBuilder("echo", "child").start();
    check(new String(child.getInputStream().readAllBytes()).equals("child\n"), "child");
    var folder = Files.createTempDirectory("j");
    Files.writeString(folder.resolve("a"), "x");
    Files.copy(folder.resolve("a"), folder.resolve("b"), StandardCopyOption.COPY_ATTRIBUTES);
    var watch = FileSystems.getDefault().newWatchService();
    folder.register(watch, StandardWatchEventKinds.ENTRY_CREATE);
    Files.createFile(folder.resolve("c"));
    check(watch.poll(5, TimeUnit.SECONDS) != null, "watch");
    System.gc();
    server.stop(0);
    pool.shutdown();
    System.out.println("all well");
  }

  private static void check(boolean holds, String what) {
    if (!holds) throw new IllegalStateException(what);
  }
}
