/**
 * The response that `node:http` sends.
 *
 * @module
 */
import http from "node:http";

/** A response that tells when the body it is sent from fails: all the adapter does then is to destroy it. */
export class Outgoing extends http.ServerResponse {
  /** Told of the failure, once. */
  onFailure: ((error: Error) => void) | undefined;

  override destroy(error?: Error): this {
    if (error !== undefined && !this.destroyed) this.onFailure?.(error);
    return super.destroy(error);
  }
}
