import { visible } from "@newleaf/shared/visible";

/**
 * One line an event on stderr: `time level event key=value …`, made to be read by people at night and by grep.
 * What goes in here must not be a secret: events name certificates, fingerprints, files and codes, never keys or tokens.
 */
export interface Log {
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

export function createLog(write: (line: string) => void, now: () => number): Log {
  const at =
    (level: string) =>
    (event: string, fields: LogFields = {}) =>
      write(line(now(), level, event, fields));
  return { info: at("info"), warn: at("warn"), error: at("error") };
}

/** The same log with fields that every line of it carries. */
export function logWith(log: Log, fixed: LogFields): Log {
  return {
    info: (event, fields) => log.info(event, { ...fixed, ...fields }),
    warn: (event, fields) => log.warn(event, { ...fixed, ...fields }),
    error: (event, fields) => log.error(event, { ...fixed, ...fields }),
  };
}

function line(now: number, level: string, event: string, fields: LogFields): string {
  const parts = [new Date(now).toISOString(), level, event];
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined) parts.push(`${name}=${spell(value)}`);
  }
  return `${parts.join(" ")}\n`;
}

/** Quoted when it would not read back as one word; control characters are escaped, so that nobody writes a second line. */
function spell(value: string | number | boolean | null): string {
  const text = String(value);
  return /^[^\s"=\p{Cc}\p{Cf}]+$/u.test(text) ? text : visible(JSON.stringify(text));
}
