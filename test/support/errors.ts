import { AppError, type ProblemCode } from "@newleaf/shared/problems";

/** For `assert.throws` and `assert.rejects`: a refusal with this code. */
export function isAppError(error: unknown, code: ProblemCode): error is AppError {
  return error instanceof AppError && error.code === code;
}
