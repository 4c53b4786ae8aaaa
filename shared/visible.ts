/**
 * Text as a terminal may have it: control and format characters (tab and line ends aside, those of CSV among them) spelled out as
 * `\u009b`. What others wrote must neither move the cursor nor turn a line around. In JSON that is the same text, so programs read what
 * was meant.
 */
export function visible(text: string): string {
  return text.replaceAll(/(?!\r?\n|\t)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (found) =>
    found.replaceAll(/[\s\S]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`),
  );
}
