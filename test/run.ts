/** `npm test` and `npm run proof`: Node's own runner over the test files. `npm test -- PATH…` runs some of them. */
import { spawn } from "node:child_process";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const args = process.argv.slice(2);
const isProof = args[0] === "--proof";
const chosen = args.filter((arg) => arg !== "--proof");
const patterns = isProof
  ? ["test/proof/**/*.test.ts"]
  : ["unit", "property", "conformance", "durability", "integration", "e2e"].map((kind) => `test/${kind}/**/*.test.ts`);

// nginx and haproxy live in /usr/sbin, which is not on every user's PATH.
const path = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;
const child = spawn(
  process.execPath,
  [
    "--test",
    // Proofs measure: one at a time. The others wait for programs and timers more than they compute: three keep two cores busy.
    `--test-concurrency=${isProof ? 1 : 3}`,
    "--test-timeout=300000",
    "--test-reporter=spec",
    ...(chosen.length > 0 ? chosen : patterns),
  ],
  { cwd: root, stdio: "inherit", env: { ...process.env, PATH: path, NEWLEAF_NODE: process.execPath } },
);
child.on("close", (code) => {
  process.exitCode = code ?? 1;
});
