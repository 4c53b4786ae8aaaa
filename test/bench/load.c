/*
 * Load for `npm run bench`: renewals over mutual TLS 1.3, each with another leaf and another new key. In C, because a Node client
 * spends more on a handshake than the service does. It does not verify the service's certificate: the client's cost is not measured.
 *
 *   load MODE PORT TUPLES CHAIN FROM COUNT CONCURRENCY PID SERIALS
 *
 * MODE     ping   a handshake and GET / each, leaves used in turn
 *          fresh  a handshake and POST /v1/renewals each
 *          kept   POST /v1/renewals over connections that stand already: a batch is opened (not measured), then fired (measured)
 * TUPLES   records of three parts, each a little-endian u32 length and bytes: leaf (DER), its key (DER), the request's body
 * CHAIN    the intermediate (DER), sent after the leaf as an agent does
 * PID      whose CPU time is read at the borders of what is measured; 0: nobody's
 * SERIALS  where the serials that were answered go, one a line
 *
 * Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BATCH 1000
#define MAX_ANSWER 16384
#define MAX_STATUS 600

struct tuple {
  X509 *leaf;
  EVP_PKEY *key;
  const char *body;
  uint32_t body_length;
};

struct connection {
  int fd;
  SSL *ssl;
};

enum mode { PING, FRESH, KEPT, HERD };

static enum mode mode;
static int port, concurrency;
static long from, count, pid;
static SSL_CTX *context;
static X509 *chain;
static struct tuple *tuples;
static long tuple_count;
static double *latencies;
static char (*serials)[64];
static struct connection *kept;
static atomic_long next_job, job_end;
static atomic_long statuses[MAX_STATUS];
static atomic_long failures;

static void die(const char *what) {
  perror(what);
  ERR_print_errors_fp(stderr);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Nanoseconds on a CPU, all threads of the process. */
static double cpu_of(long process) {
  char path[300];
  double total = 0;
  if (process == 0) return 0;
  snprintf(path, sizeof path, "/proc/%ld/task", process);
  DIR *tasks = opendir(path);
  if (tasks == NULL) die(path);
  for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
    if (task->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/%ld/task/%s/schedstat", process, task->d_name);
    FILE *file = fopen(path, "r");
    double spent;
    if (file != NULL && fscanf(file, "%lf", &spent) == 1) total += spent;
    if (file != NULL) fclose(file);
  }
  closedir(tasks);
  return total;
}

static unsigned char *read_file(const char *path, long *length) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) die(path);
  fseek(file, 0, SEEK_END);
  *length = ftell(file);
  rewind(file);
  unsigned char *bytes = malloc((size_t)*length + 1);
  if (bytes == NULL || fread(bytes, 1, (size_t)*length, file) != (size_t)*length) die(path);
  fclose(file);
  return bytes;
}

static const unsigned char *part(const unsigned char **at, uint32_t *length) {
  memcpy(length, *at, 4);
  const unsigned char *bytes = *at + 4;
  *at = bytes + *length;
  return bytes;
}

/* Decoded before anything is measured. Only the tuples from..from+count. */
static void load_tuples(const char *path) {
  long length;
  const unsigned char *bytes = read_file(path, &length), *end = bytes + length;
  tuples = calloc((size_t)count, sizeof *tuples);
  long index = 0;
  for (const unsigned char *at = bytes; at < end && tuple_count < count; index++) {
    uint32_t leaf_length, key_length, body_length;
    const unsigned char *leaf = part(&at, &leaf_length);
    const unsigned char *key = part(&at, &key_length);
    const unsigned char *body = part(&at, &body_length);
    if (index < from) continue;
    struct tuple *tuple = &tuples[tuple_count++];
    tuple->leaf = d2i_X509(NULL, &leaf, leaf_length);
    tuple->key = d2i_AutoPrivateKey(NULL, &key, key_length);
    tuple->body = (const char *)body;
    tuple->body_length = body_length;
    if (tuple->leaf == NULL || tuple->key == NULL) die("a leaf or its key cannot be read");
  }
  if (tuple_count == 0 || (mode != PING && tuple_count < count)) die("too few tuples");
}

static int open_connection(struct connection *connection, const struct tuple *tuple) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  connection->fd = socket(AF_INET, SOCK_STREAM, 0);
  connection->ssl = SSL_new(context);
  if (connection->fd < 0 || connection->ssl == NULL) die("socket");
  int one = 1;
  setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct timeval patience = {.tv_sec = 20}; /* As the agent's (service-client.ts). */
  setsockopt(connection->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(connection->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (connect(connection->fd, (struct sockaddr *)&address, sizeof address) != 0) return 0;
  SSL_set_fd(connection->ssl, connection->fd);
  if (SSL_use_certificate(connection->ssl, tuple->leaf) != 1 || SSL_use_PrivateKey(connection->ssl, tuple->key) != 1) return 0;
  if (SSL_add1_chain_cert(connection->ssl, chain) != 1) return 0;
  return SSL_connect(connection->ssl) == 1;
}

static void close_connection(struct connection *connection) {
  SSL_shutdown(connection->ssl);
  SSL_free(connection->ssl);
  close(connection->fd);
}

/* Sends one request and reads its whole answer (with a Content-Length). The status, or 0. */
static int exchange(SSL *ssl, const char *request, int length, char *answer) {
  if (SSL_write(ssl, request, length) != length) return 0;
  int have = 0;
  for (;;) {
    int got = SSL_read(ssl, answer + have, MAX_ANSWER - 1 - have);
    if (got <= 0) return 0;
    have += got;
    answer[have] = 0;
    const char *body = strstr(answer, "\r\n\r\n");
    if (body == NULL) continue;
    const char *field = strcasestr(answer, "\r\ncontent-length:");
    if (field == NULL || field > body) return 0;
    if (have - (body + 4 - answer) >= atol(field + 17)) return atoi(answer + 9);
  }
}

static int write_post(char *request, const struct tuple *tuple, const char *connection) {
  int length = sprintf(request,
                       "POST /v1/renewals HTTP/1.1\r\nHost: localhost:%d\r\nAccept: application/json\r\n"
                       "Content-Type: application/json\r\nContent-Length: %u\r\nConnection: %s\r\n\r\n",
                       port, tuple->body_length, connection);
  memcpy(request + length, tuple->body, tuple->body_length);
  return length + (int)tuple->body_length;
}

static int write_get(char *request, const char *path, const char *connection) {
  return sprintf(request, "GET %s HTTP/1.1\r\nHost: localhost:%d\r\nConnection: %s\r\n\r\n", path, port, connection);
}

static void note(long job, int status, double began, const char *answer) {
  latencies[job] = now() - began;
  if (status <= 0 || status >= MAX_STATUS) {
    failures++;
    return;
  }
  statuses[status]++;
  const char *serial = status == 201 ? strstr(answer, "\"serial\":\"") : NULL;
  if (serial != NULL) sscanf(serial + 10, "%63[0-9a-f]", serials[job]);
}

static void run_job(long job, char *request, char *answer) {
  const struct tuple *tuple = &tuples[job % tuple_count];
  double began = now();
  int status = 0;
  if (mode == KEPT) {
    status = exchange(kept[job % BATCH].ssl, request, write_post(request, tuple, "keep-alive"), answer);
  } else {
    struct connection connection;
    if (open_connection(&connection, tuple)) {
      int length = mode == PING ? write_get(request, "/", "close") : write_post(request, tuple, "close");
      status = exchange(connection.ssl, request, length, answer);
    }
    close_connection(&connection);
  }
  note(job, status, began, answer);
}

/* A kept connection has been used before: the service knows its peer. */
static void open_job(long job, char *request, char *answer) {
  struct connection *connection = &kept[job % BATCH];
  int ok = open_connection(connection, &tuples[job]) &&
           exchange(connection->ssl, request, write_get(request, "/roots.pem", "keep-alive"), answer) == 200;
  if (!ok) die("a connection to be kept cannot be opened");
}

static void *work(void *perform) {
  void (*job_function)(long, char *, char *) = *(void (**)(long, char *, char *))perform;
  char *request = malloc(MAX_ANSWER), *answer = malloc(MAX_ANSWER);
  for (long job; (job = next_job++) < job_end;) job_function(job, request, answer);
  free(request);
  free(answer);
  return NULL;
}

static void in_threads(void (*job_function)(long, char *, char *), long begin, long end) {
  pthread_t threads[concurrency];
  next_job = begin;
  job_end = end;
  for (int i = 0; i < concurrency; i++)
    if (pthread_create(&threads[i], NULL, work, &job_function) != 0) die("pthread_create");
  for (int i = 0; i < concurrency; i++) pthread_join(threads[i], NULL);
}

static void measure(long begin, long end, double *seconds, double *cpu) {
  double began = now(), cpu_before = cpu_of(pid);
  in_threads(run_job, begin, end);
  *seconds += now() - began;
  *cpu += cpu_of(pid) - cpu_before;
}

static void run_kept(double *seconds, double *cpu) {
  kept = calloc(BATCH, sizeof *kept);
  for (long begin = 0; begin < count; begin += BATCH) {
    long end = begin + BATCH < count ? begin + BATCH : count;
    in_threads(open_job, begin, end);
    usleep(200000); /* What opening left to do is not the renewals'. */
    measure(begin, end, seconds, cpu);
    for (long job = begin; job < end; job++) close_connection(&kept[job % BATCH]);
    usleep(100000);
  }
}

/* What the agent makes of Retry-After and of no answer (agent-client/decide/backoff.ts, kind `ask`): seconds. */
static double pause_of(int status, const char *answer, int failures_in_a_row, unsigned *seed) {
  double chance = (double)rand_r(seed) / RAND_MAX, ceiling = 30.0 * (double)(1L << (failures_in_a_row > 7 ? 7 : failures_in_a_row - 1));
  const char *field = status == 429 ? strcasestr(answer, "\r\nretry-after:") : NULL;
  double asked = field == NULL ? 0 : atof(field + 14), spread = asked * 0.2 < ceiling ? asked * 0.2 : ceiling;
  double pause = asked + chance * spread;
  if (pause < chance * ceiling) pause = chance * ceiling;
  return pause < ceiling * 0.02 ? ceiling * 0.02 : pause;
}

struct host {
  double first, served, last;
  int attempts, unanswered;
};

static struct host *hosts;
static double herd_began;

static void *be_host(void *number) {
  long job = (long)number;
  struct host *host = &hosts[job];
  unsigned seed = (unsigned)job * 2654435761u + 1;
  char *request = malloc(MAX_ANSWER), *answer = malloc(MAX_ANSWER);
  double wait = (double)rand_r(&seed) / RAND_MAX * concurrency;
  for (int failures_in_a_row = 1;; failures_in_a_row++) {
    usleep((useconds_t)(wait * 1e6));
    double began = now();
    if (host->attempts++ == 0) host->first = began - herd_began;
    struct connection connection;
    int status = 0;
    if (open_connection(&connection, &tuples[job]))
      status = exchange(connection.ssl, request, write_post(request, &tuples[job], "close"), answer);
    close_connection(&connection);
    if (status == 0) host->unanswered++;
    else statuses[status < MAX_STATUS ? status : 0]++;
    if (status == 201 || status == 200) { /* 200: the answer was lost, and is given again */
      host->served = now() - herd_began;
      host->last = now() - began;
      const char *serial = strstr(answer, "\"serial\":\"");
      if (serial != NULL) sscanf(serial + 10, "%63[0-9a-f]", serials[job]);
      break;
    }
    wait = pause_of(status, answer, failures_in_a_row, &seed);
  }
  free(request);
  free(answer);
  return NULL;
}

/* A thread each: most of them sleep. */
static void run_herd(const char *path) {
  pthread_t *threads = calloc((size_t)count, sizeof *threads);
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 256 * 1024);
  hosts = calloc((size_t)count, sizeof *hosts);
  herd_began = now();
  double cpu_before = cpu_of(pid);
  for (long job = 0; job < count; job++)
    if (pthread_create(&threads[job], &small, be_host, (void *)job) != 0) die("pthread_create");
  for (long job = 0; job < count; job++) pthread_join(threads[job], NULL);
  double seconds = now() - herd_began, cpu = cpu_of(pid) - cpu_before;
  FILE *file = fopen(path, "w");
  if (file == NULL) die(path);
  for (long job = 0; job < count; job++) {
    const struct host *host = &hosts[job];
    fprintf(file, "%.1f %.1f %d %.1f %d %s\n", host->first * 1e3, host->served * 1e3, host->attempts, host->last * 1e3,
            host->unanswered, serials[job]);
  }
  if (fclose(file) != 0) die(path);
  printf("{\"seconds\":%.3f,\"cpuMs\":%.6f,\"sentAway\":%ld}\n", seconds, cpu / 1e6 / (double)count, atomic_load(&statuses[429]));
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void print_result(double seconds, double cpu, const char *serials_path) {
  FILE *file = fopen(serials_path, "w");
  if (file == NULL) die(serials_path);
  for (long job = 0; job < count; job++)
    if (serials[job][0] != 0) fprintf(file, "%s\n", serials[job]);
  if (fclose(file) != 0) die(serials_path);
  qsort(latencies, (size_t)count, sizeof *latencies, ascending);
  printf("{\"count\":%ld,\"seconds\":%.6f,\"p50Ms\":%.3f,\"p99Ms\":%.3f,\"maxMs\":%.3f,\"cpuMs\":%.6f,\"failures\":%ld,\"statuses\":{", count,
         seconds, latencies[count / 2] * 1e3, latencies[count * 99 / 100] * 1e3, latencies[count - 1] * 1e3,
         cpu / 1e6 / (double)count, atomic_load(&failures));
  const char *separator = "";
  for (int status = 0; status < MAX_STATUS; status++) {
    if (statuses[status] == 0) continue;
    printf("%s\"%d\":%ld", separator, status, atomic_load(&statuses[status]));
    separator = ",";
  }
  printf("}}\n");
}

int main(int argc, char **argv) {
  if (argc != 10) {
    fprintf(stderr, "usage: load ping|fresh|kept|herd PORT TUPLES CHAIN FROM COUNT CONCURRENCY PID SERIALS\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  mode = strcmp(argv[1], "ping") == 0 ? PING : strcmp(argv[1], "kept") == 0 ? KEPT : strcmp(argv[1], "herd") == 0 ? HERD : FRESH;
  port = atoi(argv[2]);
  from = atol(argv[5]);
  count = atol(argv[6]);
  concurrency = atoi(argv[7]);
  pid = atol(argv[8]);
  context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
  long length;
  const unsigned char *der = read_file(argv[4], &length);
  chain = d2i_X509(NULL, &der, length);
  if (chain == NULL) die(argv[4]);
  load_tuples(argv[3]);
  latencies = calloc((size_t)count, sizeof *latencies);
  serials = calloc((size_t)count, sizeof *serials);
  if (mode == HERD) {
    run_herd(argv[9]);
    return 0;
  }
  double seconds = 0, cpu = 0;
  if (mode == KEPT) run_kept(&seconds, &cpu);
  else measure(0, count, &seconds, &cpu);
  print_result(seconds, cpu, argv[9]);
  return 0;
}
