/**
 * The `Request` that handlers get.
 *
 * @module
 */
import type { IncomingMessage } from "node:http";
import type { Outgoing } from "./outgoing.ts";
import { NodeRequest } from "./packages.ts";
import { joinCookies } from "./raw_headers.ts";

/**
 * The adapter's request, which Deno's own functions take too: `new Request(request)`, `fetch(request)`, the Cache API.
 *
 * They look for their own properties, named by symbols. The first look makes the real `Request` that has them; handlers
 * which never do that do not pay for it.
 */
export class HttpRequest extends NodeRequest {
  readonly #outgoing: Outgoing;
  #aborting: AbortController | undefined;

  constructor(incoming: IncomingMessage, outgoing: Outgoing) {
    super({ req: incoming, res: outgoing });
    this.#outgoing = outgoing;
    joinCookies(incoming.rawHeaders);
  }

  /** What the adapter takes the `signal` from; its own would be aborted with whatever ended the connection. */
  get _abortController(): AbortController {
    if (this.#aborting === undefined) {
      const aborting = this.#aborting = new AbortController();
      const outgoing = this.#outgoing;
      const closed = () => {
        if (!outgoing.sent) aborting.abort();
      };
      if (outgoing.destroyed) closed();
      else outgoing.once("close", closed);
    }
    return this.#aborting;
  }
}

for (const symbol of Object.getOwnPropertySymbols(new Request("http://localhost"))) {
  Object.defineProperty(HttpRequest.prototype, symbol, {
    get(this: { _request: Record<symbol, unknown> }) {
      return this._request[symbol];
    },
    set(this: { _request: Record<symbol, unknown> }, value: unknown) {
      this._request[symbol] = value;
    },
  });
}
