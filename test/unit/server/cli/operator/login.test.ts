import assert from "node:assert/strict";
import { test } from "node:test";
import { readUrls } from "../../../../../server/cli/operator/login.ts";
import { UsageError } from "../../../../../server/cli/usage-error.ts";

test("a login takes enrollment and agents listeners to be beside the admin listener, unless it is told where they are", () => {
  const cases: readonly (readonly [string, { enrollment?: string; agents?: string }, readonly string[]])[] = [
    ["https://ca:8445", {}, ["https://ca:8445", "https://ca:8444", "https://ca:8443"]],
    ["https://ca:8445/", {}, ["https://ca:8445", "https://ca:8444", "https://ca:8443"]],
    ["https://[::1]:9003", {}, ["https://[::1]:9003", "https://[::1]:9002", "https://[::1]:9001"]],
    ["https://ca", {}, ["https://ca", "https://ca:442", "https://ca:441"]],
    ["https://ca:445", {}, ["https://ca:445", "https://ca:444", "https://ca"]],
    ["https://ca:1", { enrollment: "https://e:2/", agents: "https://a" }, ["https://ca:1", "https://e:2", "https://a"]],
  ];
  for (const [server, more, expected] of cases) {
    const urls = readUrls(server, more);
    assert.deepEqual([urls.server, urls.enrollment, urls.agents], expected, server);
  }
  for (const wrong of ["http://ca:8445", "ca:8445", ""]) assert.throws(() => readUrls(wrong, {}), UsageError);
  assert.throws(() => readUrls("https://ca:2", {}), UsageError, "there is no port 0 to call");
});
