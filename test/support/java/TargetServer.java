import java.net.InetAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Executors;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;

/** A TLS server of the JDK's own sockets over {@code ReloadingStores}: TargetServer CURRENT PASSPHRASE-FILE PORT. */
public final class TargetServer {
  public static void main(String[] args) throws Exception {
    char[] passphrase = Files.readAllLines(Path.of(args[1])).get(0).toCharArray();
    SSLContext context = new ReloadingStores(Path.of(args[0]), passphrase, System.out::println).context();
    int port = Integer.parseInt(args[2]);
    var sockets = context.getServerSocketFactory();
    var workers = Executors.newCachedThreadPool();
    try (var listener = (SSLServerSocket) sockets.createServerSocket(port, 50, InetAddress.getLoopbackAddress())) {
      SSLParameters parameters = context.getDefaultSSLParameters();
      parameters.setNeedClientAuth(true);
      listener.setSSLParameters(parameters);
      while (true) {
        SSLSocket socket = (SSLSocket) listener.accept();
        workers.execute(() -> answer(socket));
      }
    }
  }

  private static void answer(SSLSocket socket) {
    try (socket) {
      socket.setSoTimeout(5000);
      socket.startHandshake();
      if (socket.getInputStream().read(new byte[4096]) < 1) return;
      String text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
      socket.getOutputStream().write(text.getBytes(StandardCharsets.US_ASCII));
    } catch (Exception refused) {
      System.out.println(refused);
    }
  }
}
