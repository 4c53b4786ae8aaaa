import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { groupsOf, impassableDirectory, resolveOwner } from "../../../../agent-client/install/owner.ts";
import { InstallError } from "../../../../agent-client/install/target.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";

describe("owners", () => {
  const directory = temporaryDirectory("owner");
  const accounts = { passwd: join(directory, "passwd"), group: join(directory, "group") };
  writeFileSync(
    accounts.passwd,
    "# comment\nroot:x:0:0:root:/root:/bin/sh\npostgres:x:105:113:PG:/:/bin/false\n+nis\n\nodd:x:abc:1::\n7:x:900:901::\n",
  );
  writeFileSync(accounts.group, "root:x:0:\nssl-cert:x:112:postgres,nginx\nother:x:114:\n");
  const self = { uid: process.geteuid?.(), gid: process.getegid?.() };

  it("resolves names and numbers, the group by default the owner's own", async () => {
    const resolve = (owner: string | number | null, group: string | number | null): Promise<unknown> =>
      resolveOwner({ owner, group }, accounts);
    assert.deepEqual(await resolve(null, null), self);
    assert.deepEqual(await resolve("postgres", null), { uid: 105, gid: 113 });
    assert.deepEqual(await resolve(105, null), { uid: 105, gid: 113 });
    assert.deepEqual(await resolve("postgres", "ssl-cert"), { uid: 105, gid: 112 });
    assert.deepEqual(await resolve("105", "200"), { uid: 105, gid: 200 });
    assert.deepEqual(await resolve(4711, null), { uid: 4711, gid: self.gid });
    assert.deepEqual(await resolve(null, "other"), { uid: self.uid, gid: 114 });
  });

  it("refuses names that are not there and numbers that chown would take for none", async () => {
    for (const owner of ["mallory", "odd", "+nis", "", "-1", "1e3", 4_294_967_295]) {
      await assert.rejects(resolveOwner({ owner, group: null }, accounts), InstallError, String(owner));
    }
    await assert.rejects(resolveOwner({ owner: null, group: "staff" }, accounts), /group "staff"/);
  });

  it("does with numbers where there are no account files", async () => {
    const none = { passwd: join(directory, "none"), group: join(directory, "none") };
    assert.deepEqual(await resolveOwner({ owner: 101, group: 101 }, none), { uid: 101, gid: 101 });
    await assert.rejects(resolveOwner({ owner: "nginx", group: null }, none), /or its number/);
  });

  it("knows the groups of a uid", async () => {
    assert.deepEqual(await groupsOf({ uid: 105, gid: 200 }, accounts), new Set([200, 113, 112]));
  });

  it("finds the directory that a uid cannot pass", async () => {
    const inner = join(directory, "open", "closed", "inner");
    mkdirSync(inner, { recursive: true, mode: 0o711 });
    const closed = join(directory, "open", "closed");
    assert.equal(await impassableDirectory(inner, { uid: 4711, gid: 4711 }, join(directory, "open")), null);
    mkdirSync(join(closed, "shut", "deep"), { recursive: true, mode: 0o700 });
    const until = join(directory, "open");
    assert.equal(
      await impassableDirectory(join(closed, "shut"), { uid: 4711, gid: 4711 }, until),
      join(closed, "shut"),
    );
    assert.equal(await impassableDirectory(join(closed, "shut"), { uid: 0, gid: 0 }, until), null);
    const me = { uid: self.uid ?? 0, gid: self.gid ?? 0 };
    assert.equal(await impassableDirectory(join(closed, "shut"), me, until), null);
  });
});
