import java.io.IOException;
import java.io.InputStream;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.Principal;
import java.security.PrivateKey;
import java.security.cert.CertPathBuilder;
import java.security.cert.CertStore;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.EnumSet;
import java.util.function.Consumer;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509ExtendedKeyManager;
import javax.net.ssl.X509ExtendedTrustManager;

/**
 * An SSLContext over keystore.p12, truststore.p12 and crl.pem of one directory that follows them: the JDK's own managers are made
 * once and never look again. Java 17 or newer, no dependencies.
 *
 * <p>What does not load is not taken: the managers in force stay, and the next version is tried when it comes.
 */
public final class ReloadingStores implements AutoCloseable {
  private static final long LOOK_EVERY_MS = 500;

  private final Path directory;
  private final char[] passphrase;
  private final Consumer<String> log;
  private final Thread watcher;
  private volatile Managers managers;
  /** For handshakes that had begun. */
  private volatile Managers previous;

  private record Managers(String version, X509ExtendedKeyManager key, X509ExtendedTrustManager trust) {}

  /**
   * @param directory the agent's {@code current}
   * @param log is told of what was loaded, and of what could not be
   */
  public ReloadingStores(Path directory, char[] passphrase, Consumer<String> log)
      throws GeneralSecurityException, IOException {
    this.directory = directory;
    this.passphrase = passphrase.clone();
    this.log = log;
    this.managers = load(versionOf());
    this.previous = this.managers;
    this.watcher = new Thread(this::watch, "reloading-stores");
    this.watcher.setDaemon(true);
    this.watcher.start();
  }

  /** For servers and clients alike. Its sessions cannot be resumed past a change when tickets are off, see the guide. */
  public SSLContext context() throws GeneralSecurityException {
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(new KeyManager[] {new Keys()}, new TrustManager[] {new Trust()}, null);
    return context;
  }

  @Override
  public void close() {
    watcher.interrupt();
  }

  private void watch() {
    String refused = "";
    while (!Thread.currentThread().isInterrupted()) {
      try {
        Thread.sleep(LOOK_EVERY_MS);
        String version = versionOf();
        if (version.equals(managers.version()) || version.equals(refused)) continue;
        try {
          Managers next = load(version);
          previous = managers;
          managers = next;
          log.accept("loaded " + version);
        } catch (GeneralSecurityException | IOException | RuntimeException error) {
          refused = version;
          log.accept("kept " + managers.version() + ", because of " + version + ": " + error);
        }
      } catch (InterruptedException stopped) {
        return;
      } catch (IOException unreadable) {
        log.accept("cannot look at " + directory + ": " + unreadable);
      }
    }
  }

  /** `current` is a link that changes in one step, to a directory whose files never change. */
  private String versionOf() throws IOException {
    return directory.toRealPath().getFileName().toString();
  }

  private Managers load(String version) throws GeneralSecurityException, IOException {
    Path files = directory.resolveSibling("versions").resolve(version);
    KeyStore keys = open(files.resolve("keystore.p12"));
    String alias = keys.aliases().nextElement();
    PrivateKey key = (PrivateKey) keys.getKey(alias, passphrase);
    if (key == null || keys.getCertificateChain(alias) == null) throw new CertificateException("no key with a chain");
    KeyManagerFactory keyFactory = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    keyFactory.init(keys, passphrase);
    TrustManagerFactory trustFactory = TrustManagerFactory.getInstance("PKIX");
    trustFactory.init(new CertPathTrustManagerParameters(parameters(files)));
    return new Managers(
        version,
        (X509ExtendedKeyManager) keyFactory.getKeyManagers()[0],
        (X509ExtendedTrustManager) trustFactory.getTrustManagers()[0]);
  }

  /** With a CRL: each certificate below the trusted ones must not be on it. Without: no revocation. */
  private PKIXBuilderParameters parameters(Path files) throws GeneralSecurityException, IOException {
    KeyStore trusted = open(files.resolve("truststore.p12"));
    PKIXBuilderParameters parameters = new PKIXBuilderParameters(trusted, new X509CertSelector());
    try (InputStream crl = Files.newInputStream(files.resolve("crl.pem"))) {
      var crls = CertificateFactory.getInstance("X.509").generateCRLs(crl);
      parameters.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(crls)));
      var checker = (PKIXRevocationChecker) CertPathBuilder.getInstance("PKIX").getRevocationChecker();
      checker.setOptions(EnumSet.of(PKIXRevocationChecker.Option.PREFER_CRLS, PKIXRevocationChecker.Option.NO_FALLBACK));
      parameters.addCertPathChecker(checker);
    } catch (NoSuchFileException none) {
      parameters.setRevocationEnabled(false);
    }
    return parameters;
  }

  private KeyStore open(Path file) throws GeneralSecurityException, IOException {
    KeyStore store = KeyStore.getInstance("PKCS12");
    try (InputStream in = Files.newInputStream(file)) {
      store.load(in, passphrase);
    }
    return store;
  }

  /**
   * Asks whoever is in force. Java asks for the alias, then for chain and key one after the other: the alias says of which version
   * it is, so that a handshake in the middle of a change gets what belongs together.
   */
  private final class Keys extends X509ExtendedKeyManager {
    private static final String MARK = "/";

    private String marked(Managers of, String alias) {
      return alias == null ? null : of.version() + MARK + alias;
    }

    private Managers of(String alias) {
      Managers now = managers;
      return alias.startsWith(now.version() + MARK) ? now : previous;
    }

    private String plain(String alias) {
      return alias.substring(alias.indexOf(MARK) + 1);
    }

    @Override
    public String chooseEngineServerAlias(String type, Principal[] issuers, SSLEngine engine) {
      Managers now = managers;
      return marked(now, now.key().chooseEngineServerAlias(type, issuers, engine));
    }

    @Override
    public String chooseServerAlias(String type, Principal[] issuers, Socket socket) {
      Managers now = managers;
      return marked(now, now.key().chooseServerAlias(type, issuers, socket));
    }

    @Override
    public String chooseEngineClientAlias(String[] types, Principal[] issuers, SSLEngine engine) {
      Managers now = managers;
      return marked(now, now.key().chooseEngineClientAlias(types, issuers, engine));
    }

    @Override
    public String chooseClientAlias(String[] types, Principal[] issuers, Socket socket) {
      Managers now = managers;
      return marked(now, now.key().chooseClientAlias(types, issuers, socket));
    }

    @Override
    public X509Certificate[] getCertificateChain(String alias) {
      return of(alias).key().getCertificateChain(plain(alias));
    }

    @Override
    public PrivateKey getPrivateKey(String alias) {
      return of(alias).key().getPrivateKey(plain(alias));
    }

    @Override
    public String[] getServerAliases(String type, Principal[] issuers) {
      return managers.key().getServerAliases(type, issuers);
    }

    @Override
    public String[] getClientAliases(String type, Principal[] issuers) {
      return managers.key().getClientAliases(type, issuers);
    }
  }

  private final class Trust extends X509ExtendedTrustManager {
    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket) throws CertificateException {
      managers.trust().checkClientTrusted(chain, type, socket);
    }

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) throws CertificateException {
      managers.trust().checkClientTrusted(chain, type, engine);
    }

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type) throws CertificateException {
      managers.trust().checkClientTrusted(chain, type);
    }

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket) throws CertificateException {
      managers.trust().checkServerTrusted(chain, type, socket);
    }

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) throws CertificateException {
      managers.trust().checkServerTrusted(chain, type, engine);
    }

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type) throws CertificateException {
      managers.trust().checkServerTrusted(chain, type);
    }

    @Override
    public X509Certificate[] getAcceptedIssuers() {
      return managers.trust().getAcceptedIssuers();
    }
  }
}
