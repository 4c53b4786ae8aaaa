/**
 * When a cron expression was last due. node-cron only fires while the process runs and the host is awake; a night that was missed
 * has to be made up, and for that one must be able to look back.
 */

/** The five fields of crontab(5), each as the set of values it admits. */
export interface CronTime {
  readonly minutes: ReadonlySet<number>;
  readonly hours: ReadonlySet<number>;
  readonly days: ReadonlySet<number>;
  readonly months: ReadonlySet<number>;
  readonly weekdays: ReadonlySet<number>;
  /** Both days and weekdays are restricted: either will do, as crontab(5) has it. */
  readonly eitherDay: boolean;
}

const monthNames = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const weekdayNames = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const minute = 60_000;
/** A day that comes every four years is looked for, one that never comes is given up. */
const furthestDays = 366 * 8;

/** @throws RangeError saying which field cannot be read */
export function parseCron(expression: string): CronTime {
  const fields = expression.trim().split(/\s+/);
  const [minutes = "", hours = "", days = "", months = "", weekdays = ""] = fields;
  if (fields.length !== 5) throw new RangeError(`"${expression}" has ${fields.length} fields, not five`);
  const weekdaySet = new Set([...readField(weekdays, 0, 7, weekdayNames, 0)].map((day) => day % 7));
  return {
    minutes: readField(minutes, 0, 59),
    hours: readField(hours, 0, 23),
    days: readField(days, 1, 31),
    months: readField(months, 1, 12, monthNames, 1),
    weekdays: weekdaySet,
    eitherDay: !days.startsWith("*") && !weekdays.startsWith("*"),
  };
}

/**
 * The newest moment not after `now` at which it was due, by the host's time zone; null when it never is.
 * @param now milliseconds
 */
export function lastDue(cron: CronTime, now: number): number | null {
  const day = new Date(now);
  day.setHours(0, 0, 0, 0);
  for (let back = 0; back <= furthestDays; back += 1) {
    if (isDay(cron, day)) {
      const found = lastOfDay(cron, day, now);
      if (found !== null) return found;
    }
    // By the calendar: days of 23 and 25 hours are days too.
    day.setDate(day.getDate() - 1);
  }
  return null;
}

function lastOfDay({ hours, minutes }: CronTime, day: Date, now: number): number | null {
  for (const hour of [...hours].toSorted((a, b) => b - a)) {
    for (const minuteOfHour of [...minutes].toSorted((a, b) => b - a)) {
      const at = new Date(day.getFullYear(), day.getMonth(), day.getDate(), hour, minuteOfHour).getTime();
      if (at <= now) return Math.floor(at / minute) * minute;
    }
  }
  return null;
}

function isDay({ days, months, weekdays, eitherDay }: CronTime, day: Date): boolean {
  if (!months.has(day.getMonth() + 1)) return false;
  const byDate = days.has(day.getDate());
  const byWeekday = weekdays.has(day.getDay());
  return eitherDay ? byDate || byWeekday : byDate && byWeekday;
}

function readField(
  text: string,
  least: number,
  most: number,
  names: readonly string[] = [],
  firstName = 0,
): ReadonlySet<number> {
  const values = new Set<number>();
  const value = (part: string): number => {
    const named = names.indexOf(part.toLowerCase());
    const number = named >= 0 ? named + firstName : /^\d{1,2}$/.test(part) ? Number(part) : Number.NaN;
    if (!(number >= least && number <= most)) {
      throw new RangeError(`"${part}" in "${text}" is not one of ${least} to ${most}`);
    }
    return number;
  };
  for (const item of text.split(",")) {
    const [, range = "", step = "1"] = /^([^/]+)(?:\/(\d{1,2}))?$/.exec(item) ?? [];
    const [from = "", to] = range.split("-");
    const first = range === "*" ? least : value(from);
    const last = range === "*" || (to === undefined && item.includes("/")) ? most : value(to ?? from);
    if (last < first || Number(step) < 1) throw new RangeError(`"${item}" admits nothing`);
    for (let at = first; at <= last; at += Number(step)) values.add(at);
  }
  return values;
}
