import type { Role } from "../identities.ts";
import type { OperatorStore } from "../operators.ts";
import { StaleBasis } from "../store.ts";
import { adminGuard, otherAdminFinder } from "./admins.ts";
import type { WriteContext, Writes } from "./commands.ts";
import { type Connection, prepare } from "./database.ts";
import { tokenWriter } from "./enrollments.ts";
import { identityAdder } from "./identities.ts";

export function operatorReads(database: Connection): Pick<OperatorStore, "hasOtherActingAdmin"> {
  const otherAdmin = otherAdminFinder(database);
  return { hasOtherActingAdmin: async (id, now) => otherAdmin(id, now) };
}

export function operatorWrites(context: WriteContext): Pick<Writes, "addOperator" | "setRole"> {
  const { database } = context;
  const addIdentity = identityAdder(database);
  const insertToken = tokenWriter(database);
  const requireAdminLeft = adminGuard(database);
  const find = prepare<[string], { role: Role | null; revision: number }>(
    database,
    "SELECT role, revision FROM identities WHERE id = ? AND profile = 'operator' AND state <> 'removed'",
  );
  const setRole = prepare(
    database,
    "UPDATE identities SET role = ?, revision = revision + 1, updated_at = ? WHERE id = ?",
  );
  return {
    addOperator({ entry, role, token }, at, audit) {
      addIdentity(entry, role, at);
      if (token !== null) insertToken(token);
      context.audit.append(audit);
    },
    setRole({ id, role, basisRevision }, at, audit) {
      const row = find.get(id);
      if (row?.revision !== basisRevision) throw new StaleBasis(`Operator ${id} changed after the decision.`);
      if (row.role === role) return;
      if (role !== "admin") requireAdminLeft(id, at);
      setRole.run(role, at, id);
      context.audit.append(audit);
    },
  };
}
