import assert from "node:assert/strict";
import { StatusError, type StatusName } from "../../rpc/mod.ts";

/** For `assert.rejects`: a `StatusError` of that status with a message that matches. */
export function hasStatus(status: StatusName, message: RegExp): (error: unknown) => true {
  return (error) => {
    assert(error instanceof StatusError, String(error));
    assert.equal(error.status, status, error.message);
    assert.match(error.message, message);
    return true;
  };
}
