import type { Socket } from "node:net";

export const startTlsProtocols = ["postgres", "smtp", "imap", "ldap", "mysql"] as const;
/** Protocols that begin in the clear and are asked to go on in TLS. */
export type StartTls = (typeof startTlsProtocols)[number];

/** More than any greeting needs; a server that says more is not what the configuration says it is. */
const maxReply = 64 * 1024;

/**
 * Speaks the beginning of the protocol on a fresh connection, up to the point where the server expects a ClientHello.
 * @throws Error when the server refuses TLS, says something else, or says more than it was asked (RFC 3207 §4.1 and CVE-2011-0411:
 *   what comes in the clear must not count as said in TLS)
 */
export async function startTls(socket: Socket, protocol: StartTls): Promise<void> {
  const dialogue = openDialogue(socket);
  try {
    await openings[protocol](dialogue);
    if (dialogue.waiting() > 0) throw new Error(`the ${protocol} server sent more than it was asked before TLS began`);
  } finally {
    dialogue.close();
  }
}

interface Dialogue {
  send(data: string | Buffer): void;
  /** Waits until that many bytes are there, and takes them. */
  bytes(count: number): Promise<Buffer>;
  /** Waits for a line and takes it, without its end. */
  line(): Promise<string>;
  waiting(): number;
  close(): void;
}

const openings: Readonly<Record<StartTls, (dialogue: Dialogue) => Promise<void>>> = {
  postgres: openPostgres,
  smtp: openSmtp,
  imap: openImap,
  ldap: openLdap,
  mysql: openMysql,
};

/** SSLRequest: Int32 8, Int32 80877103; one byte answers (PostgreSQL protocol, "SSL Session Encryption"). */
async function openPostgres(dialogue: Dialogue): Promise<void> {
  dialogue.send(Buffer.from("0000000804d2162f", "hex"));
  const answer = (await dialogue.bytes(1)).toString("latin1");
  if (answer === "S") return;
  throw new Error(answer === "N" ? "PostgreSQL has TLS switched off: set ssl = on" : "this is not a PostgreSQL server");
}

/** RFC 3207: greeting, EHLO, STARTTLS. A reply's last line has a space after the code (RFC 5321 §4.2.1). */
async function openSmtp(dialogue: Dialogue): Promise<void> {
  expectReply(await smtpReply(dialogue), "220", "greeting");
  dialogue.send("EHLO localhost\r\n");
  const offers = await smtpReply(dialogue);
  expectReply(offers, "250", "EHLO");
  if (!offers.some((line) => line.slice(4).trim().toUpperCase() === "STARTTLS")) {
    throw new Error("the SMTP server does not offer STARTTLS: switch TLS on in it");
  }
  dialogue.send("STARTTLS\r\n");
  expectReply(await smtpReply(dialogue), "220", "STARTTLS");
}

async function smtpReply(dialogue: Dialogue): Promise<string[]> {
  const lines: string[] = [];
  for (;;) {
    const line = await dialogue.line();
    if (!/^\d{3}([ -]|$)/.test(line)) throw new Error(`this is not an SMTP server: ${quote(line)}`);
    lines.push(line);
    if (line[3] !== "-") return lines;
  }
}

function expectReply(lines: readonly string[], code: string, to: string): void {
  const last = lines.at(-1) ?? "";
  if (!last.startsWith(code)) throw new Error(`the SMTP server answers ${to} with ${quote(last)}`);
}

/** RFC 3501 §6.2.1. */
async function openImap(dialogue: Dialogue): Promise<void> {
  const greeting = await dialogue.line();
  if (!/^\* (OK|PREAUTH)\b/i.test(greeting)) throw new Error(`this is not an IMAP server: ${quote(greeting)}`);
  dialogue.send("a1 STARTTLS\r\n");
  for (;;) {
    const line = await dialogue.line();
    if (line.startsWith("* ")) continue;
    if (/^a1 OK\b/i.test(line)) return;
    throw new Error(`the IMAP server answers STARTTLS with ${quote(line)}`);
  }
}

/** RFC 4511 §4.14: ExtendedRequest 1.3.6.1.4.1.1466.20037 as message 1; the ExtendedResponse's resultCode must be success. */
async function openLdap(dialogue: Dialogue): Promise<void> {
  const name = Buffer.from("1.3.6.1.4.1.1466.20037", "latin1");
  const request = Buffer.concat([Buffer.of(0x80, name.length), name]);
  const message = Buffer.concat([Buffer.of(0x02, 1, 1, 0x77, request.length), request]);
  dialogue.send(Buffer.concat([Buffer.of(0x30, message.length), message]));
  const body = await berContent(dialogue);
  // messageID 1, then [APPLICATION 24] and its length, then ENUMERATED resultCode.
  const isAnswer = body.subarray(0, 4).equals(Buffer.of(0x02, 1, 1, 0x78));
  const at = 5 + ((body[4] ?? 0) >= 0x80 ? (body[4] ?? 0) & 0x7f : 0);
  if (!isAnswer || body[at] !== 0x0a || body[at + 1] !== 1) throw new Error("this is not an LDAP server");
  const code = body[at + 2];
  if (code !== 0) throw new Error(`the LDAP server refuses StartTLS (resultCode ${code}): switch TLS on in it`);
}

/** LDAP is BER: servers are free to write long lengths (RFC 4511 §5.1). */
async function berContent(dialogue: Dialogue): Promise<Buffer> {
  const [tag, first = 0] = await dialogue.bytes(2);
  if (tag !== 0x30 || first === 0x80 || first > 0x84) throw new Error("this is not an LDAP server");
  if (first < 0x80) return dialogue.bytes(first);
  const octets = await dialogue.bytes(first & 0x7f);
  return dialogue.bytes(octets.readUIntBE(0, octets.length));
}

/** Version, challenge and a few flags: far less than this. */
const maxGreeting = 4096;
const mysqlSsl = 0x0800;
const mysqlProtocol41 = 0x0200;
const mysqlSecureConnection = 0x8000;

/** HandshakeV10, then SSLRequest (MySQL client/server protocol, "Connection Phase"). Integers are little-endian. */
async function openMysql(dialogue: Dialogue): Promise<void> {
  const header = await dialogue.bytes(4);
  const length = header.readUIntLE(0, 3);
  if (length > maxGreeting) throw new Error("this is not a MySQL server");
  const greeting = await dialogue.bytes(length);
  // 0xff is an error packet: code, message.
  if (greeting[0] === 0xff) throw new Error(`the MySQL server refuses: ${quote(greeting.toString("latin1", 3))}`);
  const versionEnd = greeting.indexOf(0, 1);
  // Connection id (4), first part of the challenge (8), filler (1), then the lower half of the capabilities.
  const capabilitiesAt = versionEnd + 1 + 4 + 8 + 1;
  if (greeting[0] !== 10 || versionEnd < 0 || capabilitiesAt + 2 > greeting.length) {
    throw new Error("this is not a MySQL server");
  }
  if ((greeting.readUInt16LE(capabilitiesAt) & mysqlSsl) === 0) {
    throw new Error("MySQL has TLS switched off: set ssl_cert and ssl_key");
  }
  const request = Buffer.alloc(4 + 32);
  request.writeUIntLE(32, 0, 3);
  request[3] = ((header[3] ?? 0) + 1) & 0xff;
  request.writeUInt32LE(mysqlSsl | mysqlProtocol41 | mysqlSecureConnection, 4);
  request.writeUInt32LE(0x0100_0000, 8);
  // utf8mb4_general_ci, known to every version.
  request[12] = 45;
  dialogue.send(request);
}

function openDialogue(socket: Socket): Dialogue {
  let received: Buffer = Buffer.alloc(0);
  let ended: Error | null = null;
  let wake = (): void => undefined;
  const onData = (chunk: Buffer): void => {
    received = Buffer.concat([received, chunk]);
    if (received.length > maxReply) ended = new Error("the server says more than any server has to say before TLS");
    wake();
  };
  const onEnd = (): void => {
    ended ??= new Error("the server closed the connection before TLS began");
    wake();
  };
  const onError = (error: Error): void => {
    ended ??= error;
    wake();
  };
  socket.on("data", onData).on("end", onEnd).on("close", onEnd).on("error", onError);

  const until = async (length: () => number): Promise<number> => {
    for (;;) {
      const enough = length();
      if (enough >= 0 && received.length >= enough) return enough;
      if (ended !== null) throw ended;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  const take = (count: number): Buffer => {
    const taken = received.subarray(0, count);
    received = received.subarray(count);
    return taken;
  };
  return {
    send: (data) => void socket.write(data),
    bytes: async (count) => take(await until(() => count)),
    line: async () =>
      take(await until(() => received.indexOf(0x0a) + 1 || -1))
        .toString("latin1")
        .trimEnd(),
    waiting: () => received.length,
    close: () => void socket.off("data", onData).off("end", onEnd).off("close", onEnd).off("error", onError),
  };
}

function quote(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return `"${text.slice(0, 120).replaceAll(/[\u0000-\u001f\u007f]+/g, " ")}"`;
}
