import { AppError } from "@newleaf/shared/problems";
import { type Connection, prepare } from "./database.ts";

/**
 * To be asked, in the same transaction, before an identity is removed, suspended or loses a role. Whoever is no admin may go.
 * @throws AppError not-permitted
 */
export function adminGuard(database: Connection): (id: string, at: number) => void {
  const isAdmin = prepare<[string], number>(
    database,
    "SELECT 1 FROM identities WHERE id = ? AND role = 'admin' AND state = 'active'",
  ).pluck();
  const otherAdmin = otherAdminFinder(database);
  return (id, at) => {
    if (isAdmin.get(id) === undefined || otherAdmin(id, at)) return;
    throw new AppError(
      "not-permitted",
      `${id} is the last admin who holds a certificate in date: without one, operators cannot be managed any more`,
    );
  };
}

/** Whether another active admin holds a certificate that can be used at that time. */
export function otherAdminFinder(database: Connection): (id: string, at: number) => boolean {
  const find = prepare<[string, number], number>(
    database,
    `SELECT 1 FROM identities i WHERE i.role = 'admin' AND i.state = 'active' AND i.id <> ?
       AND EXISTS (SELECT 1 FROM certificates c WHERE c.identity = i.id AND c.state IN ('pending', 'current') AND c.not_after > ?)
     LIMIT 1`,
  ).pluck();
  return (id, at) => find.get(id, at) !== undefined;
}
