/** Switches a target to a version and dies with SIGKILL right after the named step: `copies-child.ts TARGET-JSON VERSION STEP`. */
import { switchTo } from "../../agent-client/install/switch.ts";
import type { Target } from "../../agent-client/install/target.ts";

const [target = "", version = "", step = ""] = process.argv.slice(2);
await switchTo(JSON.parse(target) as Target, version, {
  adopt: false,
  checkpoint(name) {
    if (name === step) process.kill(process.pid, "SIGKILL");
  },
});
