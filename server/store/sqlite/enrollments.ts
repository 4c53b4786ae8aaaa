import { networkOf } from "@newleaf/shared/network";
import { AppError } from "@newleaf/shared/problems";
import type { IssuanceBasis, IssuanceRecord } from "../certificates.ts";
import type { ApprovalRow, EnrollmentStore, GrantRow, RequestRow, TokenRow } from "../enrollments.ts";
import { StaleBasis } from "../store.ts";
import type { WriteContext, Writes } from "./commands.ts";
import { type Connection, prepare } from "./database.ts";
import { keyDisarmer } from "./keys.ts";
import { filterBy, mapPage, newFilter, readPage } from "./pages.ts";

type Reads = Pick<
  EnrollmentStore,
  | "findToken"
  | "findTokenById"
  | "listTokens"
  | "findRequest"
  | "findRequestByKey"
  | "listRequests"
  | "countPendingRequests"
  | "listApprovals"
  | "countRequestsWith"
  | "findOpenGrant"
  | "findGrant"
>;
type RequestWrites = Pick<Writes, "openRequest" | "denyRequest">;
type EnrollmentWrites = RequestWrites & Pick<Writes, "approveRequest" | "createToken" | "revokeToken" | "createGrant">;

interface StoredRequest extends Omit<RequestRow, "askedNames"> {
  readonly no: number;
  readonly askedNames: string;
}

const selectToken = `SELECT no, id, identity, created_by AS createdBy, created_at AS createdAt, expires_at AS expiresAt,
  spent_at AS spentAt, spent_on AS spentOn, revoked_at AS revokedAt FROM tokens`;
const selectRequest = `SELECT no, id, state, key_fingerprint AS "key", csr, claim, asked_names AS askedNames, address,
  created_at AS createdAt, expires_at AS expiresAt, identity, serial, decided_by AS decidedBy, decided_at AS decidedAt FROM requests`;
const selectApprovals =
  'SELECT operator AS "by", how, identity, admission, at FROM approvals WHERE request = ? ORDER BY no';
const selectGrant = `SELECT id, identity, created_by AS createdBy, created_at AS createdAt, expires_at AS expiresAt,
  spent_at AS spentAt FROM grants`;

export function enrollmentReads(database: Connection): Reads {
  const token = prepare<[string], TokenRow & { no: number }>(database, `${selectToken} WHERE secret_hash = ?`);
  const tokenById = prepare<[string], TokenRow & { no: number }>(database, `${selectToken} WHERE id = ?`);
  const request = prepare<[string, number], StoredRequest>(
    database,
    `${selectRequest} WHERE id = ? AND expires_at > ?`,
  );
  const requestByKey = prepare<[string, number], StoredRequest>(
    database,
    `${selectRequest} WHERE key_fingerprint = ? AND expires_at > ? ORDER BY no DESC LIMIT 1`,
  );
  const pending = prepare<[number], number>(
    database,
    "SELECT count(*) FROM requests WHERE state = 'pending' AND expires_at > ?",
  ).pluck();
  const grant = prepare<[string, number], GrantRow>(
    database,
    `${selectGrant} WHERE identity = ? AND spent_at IS NULL AND expires_at > ? ORDER BY expires_at LIMIT 1`,
  );
  const grantById = prepare<[string], GrantRow>(database, `${selectGrant} WHERE id = ?`);
  const approvals = prepare<[string], ApprovalRow>(database, selectApprovals);
  const withAdmission = prepare<[string, number], number>(
    database,
    `SELECT count(*) FROM approvals a JOIN requests r ON r.id = a.request
     WHERE a.admission = ? AND r.state = 'pending' AND r.expires_at > ?`,
  ).pluck();
  const order = [{ column: "no", type: "integer", direction: "DESC" }] as const;
  const positionOf = (row: { readonly no: number }) => [row.no];
  return {
    async findToken(secretHash) {
      const row = token.get(secretHash);
      return row === undefined ? null : toToken(row);
    },
    async findTokenById(id) {
      const row = tokenById.get(id);
      return row === undefined ? null : toToken(row);
    },
    async listTokens(page) {
      const filter = newFilter();
      filterBy(filter, "identity = ?", page.identity);
      const listing = { select: selectToken, filter, order, positionOf };
      return mapPage(readPage<TokenRow & { no: number }>(database, listing, page), toToken);
    },
    async findRequest(id, now) {
      const row = request.get(id, now);
      return row === undefined ? null : toRequest(row);
    },
    async findRequestByKey(key, now) {
      const row = requestByKey.get(key, now);
      return row === undefined ? null : toRequest(row);
    },
    async listRequests(page) {
      const filter = newFilter();
      filterBy(filter, "expires_at > ?", page.now);
      filterBy(filter, "state = ?", page.state);
      return mapPage(
        readPage<StoredRequest>(database, { select: selectRequest, filter, order, positionOf }, page),
        toRequest,
      );
    },
    countPendingRequests: async (now) => pending.get(now) ?? 0,
    listApprovals: async (id) => approvals.all(id),
    countRequestsWith: async (admission, now) => withAdmission.get(admission, now) ?? 0,
    findOpenGrant: async (identity, now) => grant.get(identity, now) ?? null,
    findGrant: async (id) => grantById.get(id) ?? null,
  };
}

export function enrollmentWrites(context: WriteContext): EnrollmentWrites {
  const { database } = context;
  const insertToken = tokenWriter(database);
  const requireRevision = revisionChecker(database);
  const tokenExists = prepare<[string], number>(database, "SELECT 1 FROM tokens WHERE id = ?").pluck();
  const revokeToken = prepare(
    database,
    "UPDATE tokens SET revoked_at = ? WHERE id = ? AND spent_at IS NULL AND revoked_at IS NULL",
  );
  const insertGrant = prepare(
    database,
    "INSERT INTO grants (id, identity, created_by, created_at, expires_at, spent_at) VALUES (?, ?, ?, ?, ?, ?)",
  );
  return {
    ...requestWrites(context),
    ...approvalWrites(context),
    createToken(t, basisRevision, audit) {
      requireRevision(t.identity, basisRevision);
      insertToken(t);
      context.audit.append(audit);
    },
    revokeToken(id, at, audit) {
      if (tokenExists.get(id) === undefined) throw new AppError("not-found", `There is no token ${id}.`);
      if (revokeToken.run(at, id).changes === 1) context.audit.append(audit);
    },
    createGrant(grant, basisRevision, audit) {
      const { id, identity, createdBy, createdAt, expiresAt, spentAt } = grant;
      requireRevision(identity, basisRevision);
      insertGrant.run(id, identity, createdBy, createdAt, expiresAt, spentAt);
      context.audit.append(audit);
    },
  };
}

/** What is given out to an identity while it is being removed must not admit anybody to a later one of the same name. */
function revisionChecker(database: Connection): (identity: string, revision: number) => void {
  const find = prepare<[string], number>(
    database,
    "SELECT revision FROM identities WHERE id = ? AND state <> 'removed'",
  ).pluck();
  return (identity, revision) => {
    if (find.get(identity) !== revision) throw new StaleBasis(`Identity ${identity} changed after the decision.`);
  };
}

export function tokenWriter(database: Connection): (token: TokenRow & { readonly secretHash: string }) => void {
  const insert = prepare(
    database,
    `INSERT INTO tokens (id, secret_hash, identity, created_by, created_at, expires_at, spent_at, spent_on, revoked_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  return ({ id, secretHash, identity, createdBy, createdAt, expiresAt, spentAt, spentOn, revokedAt }) => {
    insert.run(id, secretHash, identity, createdBy, createdAt, expiresAt, spentAt, spentOn, revokedAt);
  };
}

function requestWrites(context: WriteContext): RequestWrites {
  const { database } = context;
  const dropExpired = prepare(database, "DELETE FROM requests WHERE expires_at <= ?");
  const openByKey = prepare<[string], StoredRequest>(
    database,
    // A denied one stands until it expires: who asks again must not be asked about again.
    `${selectRequest} WHERE key_fingerprint = ? AND state IN ('pending', 'denied') ORDER BY no DESC LIMIT 1`,
  );
  const countOpen = prepare<[], number>(database, "SELECT count(*) FROM requests WHERE state = 'pending'").pluck();
  const countFrom = prepare<[string], number>(
    database,
    "SELECT count(*) FROM requests WHERE state = 'pending' AND network = ?",
  ).pluck();
  const insert = prepare(
    database,
    `INSERT INTO requests (id, state, key_fingerprint, csr, claim, asked_names, address, created_at, expires_at, identity, serial,
       decided_by, decided_at, network) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const deny = prepare(
    database,
    "UPDATE requests SET state = 'denied', decided_by = ?, decided_at = ? WHERE id = ? AND state = 'pending'",
  );
  return {
    openRequest(r, limits, audit) {
      dropExpired.run(r.createdAt);
      const open = openByKey.get(r.key);
      if (open !== undefined) return toRequest(open);
      if ((countOpen.get() ?? 0) >= limits.maxOpen) {
        throw new AppError("rate-limited", "Too many enrollment requests wait for an operator; try again later.");
      }
      const network = networkOf(r.address);
      if ((countFrom.get(network) ?? 0) >= limits.maxOpenPerAddress) {
        throw new AppError(
          "rate-limited",
          "Too many enrollment requests from this address wait for an operator; try again later.",
        );
      }
      insert.run(
        r.id,
        r.state,
        r.key,
        r.csr,
        r.claim,
        JSON.stringify(r.askedNames),
        r.address,
        r.createdAt,
        r.expiresAt,
        r.identity,
        r.serial,
        r.decidedBy,
        r.decidedAt,
        network,
      );
      context.audit.append(audit);
      return r;
    },
    denyRequest(id, decidedBy, at, audit) {
      if (deny.run(decidedBy, at, id).changes !== 1) throw new StaleBasis(`Request ${id} is no longer pending.`);
      context.audit.append(audit);
    },
  };
}

function approvalWrites(context: WriteContext): Pick<Writes, "approveRequest"> {
  const { database } = context;
  const requireApprovals = approvalsChecker(database);
  const isPending = prepare<[string], number>(
    database,
    "SELECT 1 FROM requests WHERE id = ? AND state = 'pending'",
  ).pluck();
  const isRemoved = prepare<[string], number>(
    database,
    "SELECT 1 FROM identities WHERE id = ? AND state = 'removed'",
  ).pluck();
  const dropByHand = prepare(database, "DELETE FROM approvals WHERE request = ? AND operator = ? AND how = 'approval'");
  const dropAdmission = prepare(database, "DELETE FROM approvals WHERE request = ? AND how <> 'approval'");
  const addApproval = prepare(
    database,
    "INSERT INTO approvals (request, operator, how, identity, admission, at) VALUES (?, ?, ?, ?, ?, ?)",
  );
  return {
    approveRequest(id, approval, known, audit) {
      if (isPending.get(id) === undefined) throw new StaleBasis(`Request ${id} is no longer pending.`);
      requireApprovals(id, known);
      const { by, how, identity, admission, at } = approval;
      if (isRemoved.get(identity) !== undefined) throw new StaleBasis(`Identity ${identity} was removed.`);
      if (how === "approval") dropByHand.run(id, by);
      else dropAdmission.run(id);
      addApproval.run(id, by, how, identity, admission, at);
      context.audit.append(audit);
    },
  };
}

/** Two operators who decide at the same moment each saw no other yes: the second to be written decides again. */
function approvalsChecker(database: Connection): (request: string, known: readonly ApprovalRow[]) => void {
  const present = prepare<[string], ApprovalRow>(database, selectApprovals);
  const asText = (rows: readonly ApprovalRow[]): string =>
    JSON.stringify(rows.map(({ by, how, identity, admission, at }) => [by, how, identity, admission, at]));
  return (request, known) => {
    if (asText(present.all(request)) !== asText(known))
      throw new StaleBasis(`The approvals of request ${request} changed after the decision.`);
  };
}

/** Who counted as an approver must still be what he was. */
function approversChecker(database: Connection): (approvers: NonNullable<IssuanceBasis["approvers"]>) => void {
  const revision = prepare<[string], number>(
    database,
    "SELECT revision FROM identities WHERE id = ? AND state = 'active'",
  ).pluck();
  return (approvers) => {
    for (const approver of approvers) {
      if (revision.get(approver.id) !== approver.revision)
        throw new StaleBasis(`Operator ${approver.id} changed after the decision.`);
    }
  };
}

/** Spends what admitted an enrollment, each only if it is still open. */
export function spender(database: Connection): (record: IssuanceRecord) => void {
  const token = prepare(
    database,
    `UPDATE tokens SET spent_at = ?, spent_on = ?
     WHERE id = ? AND identity = ? AND spent_at IS NULL AND revoked_at IS NULL AND expires_at > ?`,
  );
  const request = prepare(
    database,
    `UPDATE requests SET state = 'issued', identity = ?, serial = ?, decided_by = ?, decided_at = ?
     WHERE id = ? AND state = 'pending' AND key_fingerprint = ?`,
  );
  const answered = prepare(
    database,
    "UPDATE requests SET state = 'issued', identity = ?, serial = ?, decided_at = ? WHERE key_fingerprint = ? AND state = 'pending'",
  );
  const grant = prepare(
    database,
    "UPDATE grants SET spent_at = ? WHERE id = ? AND identity = ? AND spent_at IS NULL AND expires_at > ?",
  );
  const disarm = keyDisarmer(database);
  const requireApprovals = approvalsChecker(database);
  const requireApprovers = approversChecker(database);
  return ({ certificate: c, basis, decidedBy }) => {
    const { tokenId, requestId, grantId, armedKey } = basis;
    const at = c.issuedAt;
    if (requestId !== undefined && basis.approvals !== undefined) requireApprovals(requestId, basis.approvals);
    if (basis.approvers !== undefined) requireApprovers(basis.approvers);
    if (tokenId !== undefined && token.run(at, c.serial, tokenId, c.identity, at).changes !== 1) {
      throw new StaleBasis(`Token ${tokenId} is no longer open.`);
    }
    if (
      requestId !== undefined &&
      request.run(c.identity, c.serial, decidedBy ?? null, at, requestId, c.key).changes !== 1
    ) {
      throw new StaleBasis(`Request ${requestId} is no longer pending.`);
    }
    if (grantId !== undefined && grant.run(at, grantId, c.identity, at).changes !== 1) {
      throw new StaleBasis(`Grant ${grantId} is no longer open.`);
    }
    if (armedKey !== undefined) disarm(armedKey, c.identity);
    // A request of the same key, made before the token came, has nothing left to wait for.
    if (requestId === undefined && c.kind !== "renewal") answered.run(c.identity, c.serial, at, c.key);
  };
}

function toToken({ no: _no, ...row }: TokenRow & { readonly no: number }): TokenRow {
  return row;
}

function toRequest({ no: _no, ...row }: StoredRequest): RequestRow {
  return { ...row, askedNames: JSON.parse(row.askedNames) as string[] };
}
