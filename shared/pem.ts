import { AppError } from "./problems.ts";

export type PemLabel =
  | "CERTIFICATE"
  | "CERTIFICATE REQUEST"
  | "X509 CRL"
  | "PUBLIC KEY"
  | "PRIVATE KEY"
  | "ENCRYPTED PRIVATE KEY";

/** The older spelling some programs still write (RFC 7468 §7). */
const aliases: Readonly<Record<string, PemLabel>> = { "NEW CERTIFICATE REQUEST": "CERTIFICATE REQUEST" };
const boundary = /^-----(BEGIN|END) ([A-Z0-9 ]+)-----$/;
const base64Alphabet = /^[A-Za-z0-9+/]*={0,2}$/;

/** One PEM block, lines of 64, newline at the end (RFC 7468 §2). */
export function pemEncode(label: PemLabel, der: Uint8Array): string {
  const base64 = Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString("base64");
  return `-----BEGIN ${label}-----\n${base64.replace(/.{1,64}/g, "$&\n")}-----END ${label}-----\n`;
}

/**
 * DER of every block with this label, in order; text and blocks of other labels around them are passed over. No block: empty.
 * `CERTIFICATE REQUEST` also reads `NEW CERTIFICATE REQUEST`.
 * @throws AppError `request-invalid` for a block that does not end, ends as something else, or is not base64
 */
export function pemDecode(text: string, label: PemLabel): Buffer[] {
  const found: Buffer[] = [];
  let open: { readonly label: string; readonly lines: string[] } | null = null;
  for (const line of text.split(/\r\n|\n|\r/)) {
    const [, kind, name = ""] = boundary.exec(line.trimEnd()) ?? [];
    if (kind === undefined) open?.lines.push(line);
    else if (kind === "BEGIN") {
      if (open !== null) throw invalid(open.label, "another block begins before it ends");
      open = { label: name, lines: [] };
    } else {
      if (open?.label !== name) throw invalid(name, "it ends without having begun");
      if ((aliases[name] ?? name) === label) found.push(decodeBase64(open.lines.join(""), name));
      open = null;
    }
  }
  if (open !== null) throw invalid(open.label, "it does not end");
  return found;
}

/**
 * Strict base64: the standard alphabet and padding, white space anywhere, unused bits zero; nothing is skipped in silence.
 * @throws AppError `request-invalid`
 */
export function decodeBase64(text: string, what: string): Buffer {
  const compact = text.replace(/[ \t\r\n]+/g, "");
  const bytes = Buffer.from(compact, "base64");
  const whole = compact.length > 0 && compact.length % 4 === 0 && base64Alphabet.test(compact);
  if (!whole || bytes.toString("base64") !== compact) throw invalid(what, "its contents are not base64");
  return bytes;
}

function invalid(label: string, why: string): AppError {
  return new AppError("request-invalid", `The PEM block "${label.slice(0, 40)}" cannot be read: ${why}`);
}
