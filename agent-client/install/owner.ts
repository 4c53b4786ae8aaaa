import { readFile, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { InstallError, type Target } from "./target.ts";

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Where names are looked up. Read directly: Node has no getpwnam, and a child process for it would be one more thing to fail. */
export interface AccountFiles {
  readonly passwd: string;
  readonly group: string;
}

const systemAccounts: AccountFiles = { passwd: "/etc/passwd", group: "/etc/group" };
const numeric = /^\d{1,10}$/;
/** (uid_t) -1 means "leave alone" to chown(2). */
const highestId = 0xffff_fffe;

/**
 * The uid and gid that a target's files get. Accounts may change, so this is asked again at each use.
 * @throws InstallError for a name that is in neither file (LDAP and the like: give the number)
 */
export async function resolveOwner(
  target: Pick<Target, "owner" | "group">,
  accounts: AccountFiles = systemAccounts,
): Promise<Owner> {
  const self = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
  const user = target.owner === null ? self : await findUser(target.owner, accounts);
  const gid = target.group === null ? (user.gid ?? self.gid) : await findGroup(target.group, accounts);
  return { uid: user.uid, gid };
}

/** Groups of a uid: its primary one and those of /etc/group that list it. For judging who may pass a directory. */
export async function groupsOf(owner: Owner, accounts: AccountFiles = systemAccounts): Promise<ReadonlySet<number>> {
  const groups = new Set([owner.gid]);
  const users = (await entries(accounts.passwd)).filter((fields) => Number(fields[2]) === owner.uid);
  for (const user of users) groups.add(Number(user[3]));
  const names = new Set(users.map((fields) => fields[0]));
  for (const fields of await entries(accounts.group)) {
    if ((fields[3] ?? "").split(",").some((member) => names.has(member))) groups.add(Number(fields[2]));
  }
  return groups;
}

/**
 * The first directory from `path` upwards that `owner` cannot pass (no x bit for it), or null. Root passes all.
 * `until`: do not look above this directory.
 */
export async function impassableDirectory(path: string, owner: Owner, until = "/"): Promise<string | null> {
  if (owner.uid === 0) return null;
  const groups = await groupsOf(owner);
  for (let directory = path; ; directory = dirname(directory)) {
    const info = await stat(directory);
    const bit = info.uid === owner.uid ? 0o100 : groups.has(info.gid) ? 0o010 : 0o001;
    if ((info.mode & bit) === 0) return directory;
    if (directory === until || directory === dirname(directory)) return null;
  }
}

async function findUser(owner: string | number, accounts: AccountFiles): Promise<{ uid: number; gid: number | null }> {
  const wanted = String(owner);
  const byNumber = numeric.test(wanted);
  const fields = (await entries(accounts.passwd)).find((entry) => entry[byNumber ? 2 : 0] === wanted);
  if (fields !== undefined) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  if (byNumber) return { uid: checkedId(wanted, "owner"), gid: null };
  throw new InstallError(
    `owner "${wanted}" is not in ${accounts.passwd}; write the name of a local account, or its number (containers, LDAP)`,
  );
}

async function findGroup(group: string | number, accounts: AccountFiles): Promise<number> {
  const wanted = String(group);
  if (numeric.test(wanted)) return checkedId(wanted, "group");
  const fields = (await entries(accounts.group)).find((entry) => entry[0] === wanted);
  if (fields !== undefined) return Number(fields[2]);
  throw new InstallError(
    `group "${wanted}" is not in ${accounts.group}; write the name of a local group, or its number (containers, LDAP)`,
  );
}

function checkedId(text: string, what: string): number {
  const id = Number(text);
  if (id > highestId) throw new InstallError(`${what} ${text} is beyond the highest id the system has (${highestId})`);
  return id;
}

/** Fields of each line whose id is a number; files that are missing have none (a bare container image has no /etc/passwd). */
async function entries(path: string): Promise<string[][]> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw new InstallError(`cannot read ${path} to look up an owner: ${String(error)}`, error);
  }
  return text
    .split("\n")
    .map((line) => line.split(":"))
    .filter((fields) => numeric.test(fields[2] ?? ""));
}
