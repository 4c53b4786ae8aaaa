/** docs/api.md and the code say the same: every route with its listeners, every problem code with its status and retry class. And no document points nowhere. */
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { problems } from "@newleaf/shared/problems";
import { attentionKinds } from "../../server/authority/status/attention.ts";
import type { Authority } from "../../server/authority/authority.ts";
import { acts } from "../../server/authority/permissions.ts";
import { adminApp } from "../../server/http/admin/router.ts";
import { agentsApp } from "../../server/http/agents.ts";
import { enrollmentApp } from "../../server/http/enrollment.ts";
import { opsApp } from "../../server/http/ops.ts";
import { publicApp } from "../../server/http/public.ts";
import { createMetrics } from "../../server/metrics.ts";
import { routesOf } from "../support/routes.ts";

const root = join(import.meta.dirname, "..", "..");
const document = readFileSync(join(root, "docs", "api.md"), "utf8");

/** Mounting routes asks nothing of the authority; answering them does, and nobody asks here. */
const authority = {} as Authority;

const apps = {
  agents: agentsApp(authority, AbortSignal.abort()),
  enrollment: enrollmentApp(authority),
  admin: adminApp(authority),
  public: publicApp(authority),
  ops: opsApp(authority, createMetrics("0.0.0")),
};

test("docs/api.md documents every route that is mounted, on its listeners, and no other", () => {
  const mounted = Object.entries(apps).flatMap(([listener, app]) =>
    routesOf(app).map((route) => `${listener} ${route}`),
  );
  assert.ok(mounted.length > 40, `only ${mounted.length} routes were found: has Express changed its inside?`);
  assert.deepEqual(documentedRoutes().toSorted(), mounted.toSorted());
});

test("docs/api.md documents every problem code with its status and retry class, and no other", () => {
  const rows = [...document.matchAll(/^\| `([a-z-]+)` \| (\d{3}) \| (never|later|after-fix) \| (.+) \|$/gm)];
  const documented = rows.map(([, code, status, retry]) => [code, Number(status), retry]);
  const defined = Object.entries(problems).map(([code, { status, retry }]) => [code, status, retry]);
  assert.deepEqual(documented, defined);
});

test("docs/api.md names no problem code that does not exist", () => {
  const looksLikeCode = /`((?:certificate|key|csr|lineage|identity|token|names|enrollment|request|issuer)-[a-z-]+)`/g;
  const named = new Set([...document.matchAll(looksLikeCode)].map(([, code]) => code ?? ""));
  const windowReasons = new Set(["issuer-draining"]);
  const kinds: ReadonlySet<string> = new Set(attentionKinds);
  assert.ok(named.size > 15);
  assert.deepEqual(
    [...named].filter((code) => !Object.hasOwn(problems, code) && !windowReasons.has(code) && !kinds.has(code)),
    [],
  );
});

test("docs/api.md says what each kind of attention means, and no other", () => {
  const section = document.split("### `GET /v1/status`")[1]?.split("```")[0] ?? "";
  const rows = [...section.matchAll(/^\| (`.*`) \| /gm)].slice(1).flatMap(([, cell]) => (cell ?? "").split(", "));
  assert.deepEqual(
    rows.map((kind) => kind.replaceAll("`", "")),
    [...attentionKinds],
  );
});

test("docs/operators.md says of each act which role it needs, as the matrix does", () => {
  const guide = readFileSync(join(root, "docs", "operators.md"), "utf8");
  const rows = [...guide.matchAll(/^\| `(viewer|approver|operator|admin)` \| (.+) \|$/gm)];
  const documented = rows.flatMap(([, role, cell]) =>
    [...(cell ?? "").matchAll(/`([a-z]+\.[a-z]+)`/g)].map(([, act]) => `${act} ${role}`),
  );
  const matrix = Object.entries(acts).map(([act, role]) => `${act} ${role}`);
  assert.deepEqual(documented.toSorted(), matrix.toSorted());
});

test("every relative link of the documents leads to a file", () => {
  const files = globSync(["*.md", "docs/**/*.md"], { cwd: root });
  assert.ok(files.includes("README.md") && files.length > 10, files.join(", "));
  const dead = files.flatMap((file) =>
    [...readFileSync(join(root, file), "utf8").matchAll(/\]\((?!https?:|#)([^)#]+)/g)]
      .map(([, link]) => link ?? "")
      .filter((link) => !existsSync(join(root, dirname(file), link)))
      .map((link) => `${file}: ${link}`),
  );
  assert.deepEqual(dead, []);
});

function documentedRoutes(): string[] {
  return document
    .split(/^## /m)
    .slice(1)
    .flatMap((section) => {
      const listeners = /^Listeners: ([^.]+)\./m.exec(section)?.[1] ?? "";
      const names = Object.keys(apps).filter((name) => new RegExp(`\\b${name}\\b`).test(listeners));
      const routes = [...section.matchAll(/^### `([A-Z]+ [^`]+)`$/gm)].map(([, route]) => route ?? "");
      assert.ok(routes.length === 0 || names.length > 0, `no listeners are named for ${routes.join(", ")}`);
      return names.flatMap((name) => routes.map((route) => `${name} ${route}`));
    });
}
