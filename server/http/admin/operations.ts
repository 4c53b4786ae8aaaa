/** Every operation of the admin API. */
import type { Operation } from "./operation.ts";
import { tokenOperations } from "./tokens.ts";

export const operations: readonly Operation[] = [...tokenOperations];
