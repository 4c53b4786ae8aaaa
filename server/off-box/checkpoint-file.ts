/** Checkpoints in a file: appended, never rewritten, durable when `deliver` resolves. The file belongs on another machine. */
import { constants, type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import { syncDirectory } from "@newleaf/shared/durable-file";
import type { CheckpointTarget } from "../authority/audit/checkpoint.ts";

const lineFeed = 0x0a;
/** Read from the end: some two hundred checkpoints. */
const tailBytes = 65_536;

/** Makes the file (0600) when there is none; its directory must exist: a share that is not mounted must not look like one. */
export function checkpointFile(path: string): CheckpointTarget {
  return {
    name: "file",
    async deliver(line) {
      const { O_APPEND, O_CREAT, O_RDWR } = constants;
      const file = await open(path, O_RDWR | O_APPEND | O_CREAT, 0o600);
      let isNew: boolean;
      try {
        const { size } = await file.stat();
        isNew = size === 0;
        if (isNew) await file.chmod(0o600);
        // After a power cut the last line may be torn: it must not swallow this one.
        const start = isNew || (await endsLine(file, size)) ? "" : "\n";
        await file.appendFile(`${start}${line}\n`);
        await file.sync();
      } finally {
        await file.close();
      }
      if (isNew) await syncDirectory(dirname(path));
    },
    async newest() {
      const file = await open(path, constants.O_RDONLY);
      try {
        const { size } = await file.stat();
        const { buffer, bytesRead } = await file.read(
          Buffer.alloc(tailBytes),
          0,
          tailBytes,
          Math.max(0, size - tailBytes),
        );
        return buffer.toString("utf8", 0, bytesRead).split("\n");
      } finally {
        await file.close();
      }
    },
  };
}

async function endsLine(file: FileHandle, size: number): Promise<boolean> {
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  return buffer[0] === lineFeed;
}
