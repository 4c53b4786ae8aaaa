export type Grade = "ok" | "warning" | "failure";

export interface Finding {
  readonly grade: Grade;
  readonly says: string;
  /** Why it matters; null when it is well. */
  readonly why: string | null;
  readonly fix: string | null;
}

export const ok = (says: string): Finding => ({ grade: "ok", says, why: null, fix: null });
export const warning = (says: string, why: string, fix: string): Finding => ({ grade: "warning", says, why, fix });
export const failure = (says: string, why: string, fix: string): Finding => ({ grade: "failure", says, why, fix });
